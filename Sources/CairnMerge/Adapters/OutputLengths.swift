import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

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
