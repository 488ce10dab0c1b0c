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
