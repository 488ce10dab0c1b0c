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
                products[index] =
                    isCompensated
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

/// Tensors as vectors of the space that they span, in coordinates of an orthonormal basis of it.
///
/// Lengths and angles of sums come from coordinates and not from scalar products, where they would be differences of
/// squares: of directions that nearly cancel out nothing would be left but rounding.
struct SpannedVectors: Sendable {
    let count: Int
    /// Their lengths.
    let norms: [Double]
    private let coordinates: [[Double]]

    /// Takes the Gram matrix apart by Cholesky's method.
    init(_ gram: GramMatrix) {
        let count = gram.count
        // What is less than this of a vector's square is the rounding of its scalar products.
        let noise = 1e-15
        var rows = [[DoubleDouble]](repeating: [], count: count)
        for column in 0..<count {
            var pivot = gram.exactly(column, column)
            for entry in rows[column] { pivot = pivot - entry * entry }
            let isNew = pivot.high > noise * noise * gram[column, column]
            let length = pivot.squareRoot()
            for row in column..<count {
                guard isNew else {
                    rows[row].append(.zero)
                    continue
                }
                if row == column {
                    rows[row].append(length)
                    continue
                }
                var rest = gram.exactly(row, column)
                for index in 0..<column { rest = rest - rows[row][index] * rows[column][index] }
                rows[row].append(rest / length)
            }
        }
        self.count = count
        norms = (0..<count).map(gram.norm)
        coordinates = rows.map { row in row.map(\.high) + [Double](repeating: 0, count: count - row.count) }
    }

    /// The sum of the vectors with coefficients.
    func sum(_ coefficients: [Double]) -> [Double] {
        var result = [Double](repeating: 0, count: count)
        for (vector, coefficient) in zip(coordinates, coefficients) where coefficient != 0 {
            for index in 0..<count { result[index] += coefficient * vector[index] }
        }
        return result
    }

    /// One of the vectors divided by its length, which is not zero.
    func unit(_ index: Int) -> [Double] { coordinates[index].map { $0 / norms[index] } }

    static func product(_ one: [Double], _ other: [Double]) -> Double { zip(one, other).reduce(0) { $0 + $1.0 * $1.1 } }

    static func norm(_ vector: [Double]) -> Double { product(vector, vector).squareRoot() }
}

/// A number as the sum of two doubles, which has twice their digits: for sums in which nearly everything cancels out.
/// (Dekker 1971)
struct DoubleDouble: Sendable, Equatable {
    /// The number rounded to a double.
    let high: Double
    /// What that rounding left out.
    let low: Double

    static let zero = DoubleDouble(0)

    init(_ value: Double) {
        high = value
        low = 0
    }

    /// The sum of two numbers of any size.
    init(_ one: Double, _ other: Double) {
        let sum = one + other, back = sum - one
        high = sum
        low = (one - (sum - back)) + (other - back)
    }

    static func + (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let sum = DoubleDouble(one.high, other.high)
        return DoubleDouble(sum.high, sum.low + one.low + other.low)
    }

    static func - (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let sum = DoubleDouble(one.high, -other.high)
        return DoubleDouble(sum.high, sum.low + one.low - other.low)
    }

    static func * (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let product = one.high * other.high
        let error = (-product).addingProduct(one.high, other.high)
        return DoubleDouble(product, error + (one.high * other.low + one.low * other.high))
    }

    static func / (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let quotient = one.high / other.high
        let rest = one - other * DoubleDouble(quotient)
        return DoubleDouble(quotient, rest.high / other.high)
    }

    /// The root of a number that is above zero; zero for others.
    func squareRoot() -> DoubleDouble {
        guard high > 0 else { return .zero }
        let root = high.squareRoot()
        let rest = self - DoubleDouble(root) * DoubleDouble(root)
        return DoubleDouble(root, rest.high / (2 * root))
    }
}
