import CCairnKernels
import CairnBase
import CairnCheckpoint
package import CairnTensor

/// How one tensor of a merge comes to be.
package struct TensorRecipe: Sendable {
    /// A tensor of an input.
    package struct Operand: Sendable, Hashable {
        /// The position of the input among those of the merge.
        package var input: Int
        /// The tensor's name there.
        package var name: String

        package init(input: Int, name: String) {
            self.input = input
            self.name = name
        }
    }

    /// The name in the result.
    package var name: String
    /// What it is made of, in the order that the method wants. All have the shape of the first.
    package var operands: [Operand]
    /// How it is made.
    package var method: MergeMethod
    /// What becomes of it then, of a merge with updates.
    package var updates: [TensorUpdate]
    /// The name in the result of the tensor that this one is, if it is one with another.
    package var tiedTo: String?
    /// The type of its elements; `nil` for what the operands and the merge's options come to.
    package var scalarType: ScalarType?

    package init(
        name: String, operands: [Operand], method: MergeMethod, updates: [TensorUpdate] = [], tiedTo: String? = nil,
        scalarType: ScalarType? = nil
    ) {
        self.name = name
        self.operands = operands
        self.method = method
        self.updates = updates
        self.tiedTo = tiedTo
        self.scalarType = scalarType
    }
}

/// What becomes of a tensor after its method, one update after the other.
package enum TensorUpdate: Sendable, Hashable {
    /// A product of two small matrices is added to a weight.
    case product(LowRankUpdate)
    /// A tensor of the same shape is added, times a number.
    case sum(TensorRecipe.Operand, scale: Double)
    /// Rows of a tensor take the places of these of a matrix.
    case rows(TensorRecipe.Operand, at: [Int])
    /// A tensor of the same shape takes the place.
    case replacement(TensorRecipe.Operand)
}

/// A product of two small matrices that is added to a weight.
///
/// Weights of more than two dimensions are matrices of the first by all others, as those of convolutions are, or stacks of
/// matrices. In a stack `down` holds the matrices one after the other, and of each row of `up` the numbers of one matrix
/// after those of the others, as PEFT does it for experts.
package struct LowRankUpdate: Sendable, Hashable {
    /// `[rank, inputs]`.
    package var down: TensorRecipe.Operand
    /// `[outputs, rank]`.
    package var up: TensorRecipe.Operand
    /// What the product is multiplied by.
    package var scale: Double
    /// Whether the weight is stored as `[inputs, outputs]`.
    package var isTransposed: Bool
    /// How many matrices of their own the weight's first dimension counts.
    package var stackCount: Int
    /// The lengths that the weight's outputs get afterwards (DoRA, Liu et al., ICML 2024).
    package var magnitude: TensorRecipe.Operand?
    /// Whether the product is rounded to the weight's type before it is added.
    package var roundsProduct: Bool

    package init(
        down: TensorRecipe.Operand, up: TensorRecipe.Operand, scale: Double, isTransposed: Bool = false,
        stackCount: Int = 1, magnitude: TensorRecipe.Operand? = nil, roundsProduct: Bool = false
    ) {
        self.down = down
        self.up = up
        self.scale = scale
        self.isTransposed = isTransposed
        self.stackCount = stackCount
        self.magnitude = magnitude
        self.roundsProduct = roundsProduct
    }
}

/// An update whose tensors are found and fit.
enum BoundUpdate: Sendable {
    case product(BoundProduct)
    case sum(MergeOperand, scale: Double)
    case rows(MergeOperand, at: [Int])
    case replacement(MergeOperand)

    /// - Throws: ``CairnError/Code/mismatch`` for tensors that do not fit, ``CairnError/Code/unsupported`` for elements
    ///   that are not numbers to add to.
    init(
        _ update: TensorUpdate, of target: TensorDescription,
        find: (TensorRecipe.Operand) throws(CairnError) -> MergeOperand
    ) throws(CairnError) {
        guard target.scalarType.hasAverage else {
            throw CairnError(
                .unsupported, "an update is for a tensor whose elements are not floating-point numbers",
                .init(tensor: target.name, found: "\(target.scalarType)", advice: "take the model before it was quantized"))
        }
        switch update {
        case .product(let product):
            var magnitude: MergeOperand?
            if let operand = product.magnitude { magnitude = try find(operand) }
            self = .product(
                try BoundProduct(
                    product, down: find(product.down), up: find(product.up), magnitude: magnitude, weight: target))
        case .sum(let operand, let scale):
            self = .sum(try Self.same(try find(operand), target), scale: scale)
        case .replacement(let operand):
            self = .replacement(try Self.same(try find(operand), target))
        case .rows(let operand, let rows):
            let found = try find(operand)
            let (shape, count) = (target.shape, target.shape.extents.first ?? 0)
            guard shape.dimensionCount == 2, found.kernelType != nil,
                found.description.shape == Shape([rows.count, shape[1]]), rows.allSatisfy({ (0..<count).contains($0) }),
                Set(rows).count == rows.count
            else {
                throw CairnError(
                    .mismatch, "rows do not fit the tensor that they are for",
                    .init(
                        file: found.reader.source, tensor: found.description.name,
                        expected: "\(rows.count) different rows of \(target.name) \(shape)",
                        found: "\(found.description.shape) for rows up to \(rows.max() ?? 0)"))
            }
            self = .rows(found, at: rows)
        }
    }

    private static func same(_ operand: MergeOperand, _ target: TensorDescription) throws(CairnError) -> MergeOperand {
        guard operand.description.shape == target.shape, operand.description.scalarType.hasAverage else {
            throw CairnError(
                .mismatch, "a tensor of an update does not fit the one that it is for",
                .init(
                    file: operand.reader.source, tensor: operand.description.name,
                    expected: "\(target.scalarType) \(target.shape) as \(target.name)",
                    found: "\(operand.description.scalarType) \(operand.description.shape)"))
        }
        return operand
    }
}

/// An update with everything known that takes a look at whole tensors.
enum PreparedUpdate: Sendable {
    case product(LowRankFactors, OutputLengths?)
    case sum(MergeOperand, scale: Double)
    /// Rows by their numbers: where each is in the matrix.
    case rows(Tensor, positions: [Int: Int])
    case replacement(MergeOperand)

    /// Changes the sums of a region of the tensor.
    func apply(
        to sums: UnsafeMutableRawPointer, _ region: Region, of shape: Shape, isDouble: Bool, _ workspace: Workspace
    ) throws {
        let precise: Int32 = isDouble ? 1 : 0
        let width = isDouble ? 8 : 4
        switch self {
        case .product(let factors, let lengths):
            try factors.add(to: sums, region, isDouble: isDouble, workspace)
            lengths?.apply(to: sums, region, factors, isDouble: isDouble)
        case .replacement(let operand):
            let x = try operand.elements(of: region) { workspace.buffer(1, byteCount: $0) }
            cairn_merge_add(kernelLevel, precise, x, 1, 1, sums, region.elementCount)
        case .sum(let operand, let scale):
            let x = try operand.elements(of: region) { workspace.buffer(1, byteCount: $0) }
            let scaled = workspace.buffer(2, byteCount: region.elementCount * width)
            let type: ScalarType = isDouble ? .f64 : .f32
            cairn_merge_add(kernelLevel, precise, x, scale, 1, scaled.baseAddress, region.elementCount)
            cairn_merge_add(
                kernelLevel, precise,
                cairn_elements(bytes: UnsafeRawPointer(scaled.baseAddress), type: type.kernelNumber ?? 0), 1, 0, sums,
                region.elementCount)
        case .rows(let rows, let positions):
            let columns = shape[1]
            for row in 0..<region.shape[0] {
                guard let position = positions[region.offsets[0] + row] else { continue }
                let source = rows.storage.base + rows.byteOffset + (position * columns + region.offsets[1]) * width
                let count = region.shape[1] * width
                (sums + row * count).copyMemory(from: UnsafeRawPointer(source), byteCount: count)
            }
        }
    }
}
