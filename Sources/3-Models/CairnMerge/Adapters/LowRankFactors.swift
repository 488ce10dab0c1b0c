import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A low-rank update whose matrices are found and fit the weight.
struct BoundProduct: Sendable {
    let down: MergeOperand
    let up: MergeOperand
    let magnitude: MergeOperand?
    let scale: Double
    let isTransposed: Bool
    let stackCount: Int
    let roundsProduct: Bool
    let weight: TensorDescription

    /// - Throws: ``CairnError/Code/mismatch`` for matrices that do not fit the weight.
    init(
        _ update: LowRankUpdate, down: MergeOperand, up: MergeOperand, magnitude: MergeOperand?,
        weight: TensorDescription
    ) throws(CairnError) {
        self.down = down
        self.up = up
        self.magnitude = magnitude
        self.weight = weight
        scale = update.scale
        isTransposed = update.isTransposed
        stackCount = update.stackCount
        roundsProduct = update.roundsProduct
        let shape = LowRankShape(
            weight: weight.shape, down: down.description.shape, up: up.description.shape, stackCount: stackCount)
        guard shape.fits(isTransposed: isTransposed), down.kernelType != nil, up.kernelType != nil else {
            throw CairnError(
                .mismatch, "the matrices of a low-rank update do not fit the weight",
                .init(
                    file: down.reader.source, tensor: weight.name, expected: "\(weight.shape)",
                    found: "\(up.description.name) \(up.description.shape) times "
                        + "\(down.description.name) \(down.description.shape)"))
        }
        guard let magnitude else { return }
        let outputs = weight.shape[isTransposed ? 1 : 0]
        guard magnitude.kernelType != nil, magnitude.description.shape.elementCount == outputs, stackCount == 1 else {
            throw CairnError(
                .mismatch, "the lengths of a weight's outputs do not fit it",
                .init(
                    file: magnitude.reader.source, tensor: magnitude.description.name, expected: "\(outputs) numbers",
                    found: "\(magnitude.description.shape)"))
        }
    }
}

/// The matrices of a low-rank update in memory: small, whatever the size of the weight.
///
/// The product comes first, then its scale, then the sum, each rounded by itself: as PEFT's does.
struct LowRankFactors: Sendable {
    /// `[stack × rank, columns]`: the numbers of each column of the weight.
    private let right: Tensor
    /// `[stack × rows, rank]`
    private let left: [Double]
    private let rank: Int
    private let rows: Int
    private let columns: Int
    private let shape: Shape
    private let scale: Double
    /// The type that products are rounded to.
    private let rounding: ScalarType?

    init(_ update: BoundProduct, isDouble: Bool) throws {
        let working: ScalarType = isDouble ? .f64 : .f32
        let stack = update.stackCount
        shape = update.weight.shape
        scale = update.scale
        let type = update.weight.scalarType
        rounding = update.roundsProduct && type.bitWidth < working.bitWidth ? type : nil
        let down = try Self.elements(of: update.down, working)
        let up = try Self.elements(of: update.up, working)
        let total = update.down.description.shape[0]
        let (inputs, outputs) = (down.count / total, update.up.description.shape[0])
        rank = total / stack
        rows = update.isTransposed ? inputs : outputs
        columns = update.isTransposed ? outputs : inputs
        var left = [Double](repeating: 0, count: stack * rows * rank)
        var right = update.isTransposed ? [Double](repeating: 0, count: total * columns) : down
        for layer in 0..<stack {
            for index in 0..<rank {
                let row = layer * rank + index
                if update.isTransposed {
                    for input in 0..<inputs { left[(layer * rows + input) * rank + index] = down[row * inputs + input] }
                    for output in 0..<outputs {
                        right[row * columns + output] = up[output * total + index * stack + layer]
                    }
                } else {
                    for output in 0..<outputs {
                        left[(layer * rows + output) * rank + index] = up[output * total + index * stack + layer]
                    }
                }
            }
        }
        self.left = left
        self.right = try Tensor(right, [total, columns]).converted(to: working)
    }

    private static func elements(of operand: MergeOperand, _ working: ScalarType) throws -> [Double] {
        try operand.reader.tensor(operand.description.name).converted(to: working).converted(to: .f64)
            .elements(as: Double.self)
    }

    /// Calls `body` for each piece of one row of the weight that lies in `region`: with where it begins in the region, its
    /// row and column in the matrix or stack of matrices, and its length.
    func forEachPiece(
        of region: Region, _ body: (_ begin: Int, _ row: Int, _ column: Int, _ count: Int) throws -> Void
    ) rethrows {
        var runs = RegionRuns(of: region, in: shape)
        var begin = 0
        while var first = runs.next() {
            let end = first + runs.runLength
            while first < end {
                let (row, column) = (first / columns, first % columns)
                let count = min(end - first, columns - column)
                try body(begin, row, column, count)
                begin += count
                first += count
            }
        }
    }

    /// Adds the product's part in `region` of the weight to `sums`, row-major.
    func add(to sums: UnsafeMutableRawPointer, _ region: Region, isDouble: Bool, _ workspace: Workspace) throws {
        let width = isDouble ? 8 : 4
        let precise: Int32 = isDouble ? 1 : 0
        let type = right.scalarType.kernelNumber ?? 0
        let longest = min(columns, region.elementCount) * width
        let product = workspace.buffer(Buffer.product, byteCount: longest)
        let scaled = workspace.buffer(Buffer.scaled, byteCount: longest)
        try forEachPiece(of: region) { begin, row, column, count in
            let first = row / rows * rank
            for index in 0..<rank {
                let source = right.storage.base + right.byteOffset + ((first + index) * columns + column) * width
                cairn_merge_add(
                    kernelLevel, precise, cairn_elements(bytes: UnsafeRawPointer(source), type: type),
                    left[row * rank + index], index == 0 ? 1 : 0, product.baseAddress, count)
            }
            cairn_merge_add(
                kernelLevel, precise, cairn_elements(bytes: UnsafeRawPointer(product.baseAddress), type: type), scale, 1,
                scaled.baseAddress, count)
            if let rounding { try round(scaled, product, count, to: rounding) }
            cairn_merge_add(
                kernelLevel, precise, cairn_elements(bytes: UnsafeRawPointer(scaled.baseAddress), type: type), 1, 0,
                sums + begin * width, count)
        }
    }

    /// Rounds numbers in place, by way of memory that they fit in.
    private func round(
        _ numbers: UnsafeMutableRawBufferPointer, _ memory: UnsafeMutableRawBufferPointer, _ count: Int,
        to type: ScalarType
    ) throws(CairnError) {
        let byteCount = count * (right.scalarType.byteWidth ?? 1)
        let narrowCount = try Tensor.byteCount(type, [count])
        var narrow = UnsafeMutableRawBufferPointer(rebasing: memory[..<narrowCount]).mutableBytes
        let wide = UnsafeMutableRawBufferPointer(rebasing: numbers[..<byteCount])
        try ScalarConversion.convert(
            UnsafeRawBufferPointer(wide).bytes, from: right.scalarType, into: &narrow, to: type)
        var again = wide.mutableBytes
        try ScalarConversion.convert(
            UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<narrowCount]).bytes, from: type,
            into: &again, to: right.scalarType)
    }

    /// The buffers of a workspace that products take; those before are the sums' and the operands'.
    private enum Buffer {
        static let product = 2, scaled = 3
    }
}

/// What the outputs of a weight are multiplied by to have the lengths of DoRA.
///
/// The lengths that they have are those of the sums, which a look at the whole weight finds out.
struct OutputLengths: Sendable {
    /// One for each row, or for each column where weights are stored as `[inputs, outputs]`.
    private let factors: [Double]
    private let isTransposed: Bool

    /// - Parameters:
    ///   - regions: The whole weight in parts.
    ///   - sums: Fills memory with the sums of a part.
    init(
        _ update: BoundProduct, _ factors: LowRankFactors, magnitude: MergeOperand, isDouble: Bool, sweep: TensorSweep,
        sums: @escaping @Sendable (Region, UnsafeMutableRawPointer, Workspace) throws -> Void
    ) throws {
        isTransposed = update.isTransposed
        let lengths = try magnitude.reader.tensor(magnitude.description.name).converted(to: isDouble ? .f64 : .f32)
            .converted(to: .f64).elements(as: Double.self)
        var squares = [Double](repeating: 0, count: lengths.count)
        if isTransposed {
            // One part after the other: what is kept of each would be as long as a row.
            try sweep.forEachInTurn { chunk in
                let memory = chunk.workspace.buffer(0, byteCount: chunk.count * (isDouble ? 8 : 4))
                guard let base = memory.baseAddress else { return }
                try sums(chunk.region, base, chunk.workspace)
                factors.forEachPiece(of: chunk.region) { begin, _, column, count in
                    for index in 0..<count {
                        let number = Self.number(base, begin + index, isDouble)
                        squares[column + index] += number * number
                    }
                }
            }
        } else {
            let parts = try sweep.map { chunk in
                let memory = chunk.workspace.buffer(0, byteCount: chunk.count * (isDouble ? 8 : 4))
                var parts: [(row: Int, square: Double)] = []
                guard let base = memory.baseAddress else { return parts }
                try sums(chunk.region, base, chunk.workspace)
                factors.forEachPiece(of: chunk.region) { begin, row, _, count in
                    let piece = base + begin * (isDouble ? 8 : 4)
                    parts.append(
                        (row, cairn_merge_dot(kernelLevel, isDouble ? 1 : 0, piece, piece, count)))
                }
                return parts
            }
            for part in parts.joined() { squares[part.row] += part.square }
        }
        self.factors = zip(lengths, squares).map { length, square in
            isDouble ? length / square.squareRoot() : Double(Float(length) / Float(square.squareRoot()))
        }
    }

    private static func number(_ memory: UnsafeMutableRawPointer, _ index: Int, _ isDouble: Bool) -> Double {
        isDouble
            ? memory.load(fromByteOffset: index * 8, as: Double.self)
            : Double(memory.load(fromByteOffset: index * 4, as: Float.self))
    }

    /// Gives the sums in `region` their lengths.
    func apply(to sums: UnsafeMutableRawPointer, _ region: Region, _ product: LowRankFactors, isDouble: Bool) {
        product.forEachPiece(of: region) { begin, row, column, count in
            for index in 0..<count {
                let factor = factors[isTransposed ? column + index : row]
                let address = sums + (begin + index) * (isDouble ? 8 : 4)
                if isDouble {
                    address.storeBytes(of: address.load(as: Double.self) * factor, as: Double.self)
                } else {
                    address.storeBytes(of: address.load(as: Float.self) * Float(factor), as: Float.self)
                }
            }
        }
    }
}
