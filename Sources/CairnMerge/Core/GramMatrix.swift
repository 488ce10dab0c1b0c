import CCairnKernels
import CairnTensor

/// The scalar products of tensors with each other, or of their differences from a base: all that methods on the sphere
/// need to know to be sums with coefficients.
struct GramMatrix: Sendable {
    let count: Int
    /// Whether its products have twice the digits of a double.
    let isCompensated: Bool
    private var products: [DoubleDouble]

    /// Reads every tensor once, whatever their number.
    ///
    /// - Parameters:
    ///   - isDouble: The precision of the differences.
    ///   - isCompensated: Whether products are added up with twice the digits of a double, which takes several times as
    ///     long; the differences are then of double precision.
    init(
        of operands: [MergeOperand], from base: MergeOperand?, isDouble: Bool, isCompensated: Bool = false,
        sweep: TensorSweep
    ) throws {
        let count = operands.count
        let isDouble = isDouble || isCompensated
        let parts = try sweep.map { chunk in
            let origin = try base?.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) } ?? .none
            let byteCount = chunk.count * (isDouble ? 8 : 4)
            var values: [UnsafeMutableRawBufferPointer] = []
            for (index, operand) in operands.enumerated() {
                let x = try operand.elements(of: chunk.region) { chunk.workspace.buffer(1, byteCount: $0) }
                let difference = chunk.workspace.buffer(2 + index, byteCount: byteCount)
                cairn_merge_difference(
                    kernelLevel, isDouble ? 1 : 0, x, origin, difference.baseAddress, chunk.count)
                values.append(difference)
            }
            var products: [DoubleDouble] = []
            for row in 0..<count {
                for column in 0...row {
                    products.append(
                        isCompensated
                            ? Self.compensated(values[row], values[column], chunk.count)
                            : DoubleDouble(
                                cairn_merge_dot(
                                    kernelLevel, isDouble ? 1 : 0, values[row].baseAddress,
                                    values[column].baseAddress, chunk.count)))
                }
            }
            return products
        }
        self.count = count
        self.isCompensated = isCompensated
        products = [DoubleDouble](repeating: .zero, count: count * (count + 1) / 2)
        for part in parts {
            for index in products.indices {
                products[index] = isCompensated
                    ? products[index] + part[index] : DoubleDouble(products[index].high + part[index].high)
            }
        }
    }

    private static func compensated(
        _ one: UnsafeMutableRawBufferPointer, _ other: UnsafeMutableRawBufferPointer, _ count: Int
    ) -> DoubleDouble {
        var sums = (0.0, 0.0)
        withUnsafeMutableBytes(of: &sums) { sums in
            cairn_merge_dot_compensated(
                kernelLevel, one.baseAddress?.assumingMemoryBound(to: Double.self),
                other.baseAddress?.assumingMemoryBound(to: Double.self), count,
                sums.baseAddress?.assumingMemoryBound(to: Double.self))
        }
        return DoubleDouble(sums.0, sums.1)
    }

    subscript(row: Int, column: Int) -> Double { exactly(row, column).high }

    /// A scalar product with all digits that it was computed with.
    func exactly(_ row: Int, _ column: Int) -> DoubleDouble {
        let (low, high) = row < column ? (row, column) : (column, row)
        return products[high * (high + 1) / 2 + low]
    }

    func norm(_ index: Int) -> Double { self[index, index].squareRoot() }

    /// The first tensor whose length is not a finite number.
    var firstWithoutLength: Int? { (0..<count).first { !self[$0, $0].isFinite } }
}

/// The instructions that the kernels may use: all that there are.
let kernelLevel = Int32(CAIRN_LEVEL_HIGHEST)
