internal import CTrainKernels
internal import CairnTensor

/// Brings the singular values of a matrix near 1 by five steps of a quintic Newton-Schulz iteration with the coefficients
/// of Jordan et al., "Muon" (2024), in single precision.
package struct Orthogonalization {
    private let rows: Int
    private let columns: Int
    private let arena: Arena
    /// Takes the matrix, [rows, columns].
    let matrix: UnsafeMutablePointer<Float>
    private let turned: UnsafeMutablePointer<Float>
    private let other: UnsafeMutablePointer<Float>
    private let gram: UnsafeMutablePointer<Float>
    private let polynomial: UnsafeMutablePointer<Float>

    init(rows: Int, columns: Int, pool: BufferPool) {
        let arena = Arena(pool: pool)
        let small = min(rows, columns)
        self.rows = rows
        self.columns = columns
        self.arena = arena
        matrix = arena.floats(rows * columns)
        turned = arena.floats(rows * columns)
        other = arena.floats(rows * columns)
        gram = arena.floats(small * small)
        polynomial = arena.floats(small * small)
    }

    /// The orthogonalised ``matrix``, which is overwritten.
    ///
    /// - Parameter norm: the Frobenius norm of the matrix.
    func orthogonalize(norm: Float) -> UnsafePointer<Float> {
        let count = rows * columns
        let small = min(rows, columns)
        let large = max(rows, columns)
        let scale = 1 / (norm + 1e-7)
        var current = turned
        var next = other
        if rows > columns {
            transpose(matrix, rows: rows, columns: columns, into: current)
        } else {
            current.update(from: matrix, count: count)
        }
        cairn_scale_add(count, scale, current, 0, current, current)
        for _ in 0..<5 {
            MatrixProduct.multiply(
                current, stride: large, current, stride: large, secondTransposed: true, into: gram, stride: small,
                rows: small, columns: small, inner: large)
            polynomial.update(from: gram, count: small * small)
            MatrixProduct.multiply(
                gram, stride: small, gram, stride: small, into: polynomial, stride: small,
                rows: small, columns: small, inner: small, scale: 2.0315, keep: -4.7750)
            next.update(from: current, count: count)
            MatrixProduct.multiply(
                polynomial, stride: small, current, stride: large, into: next, stride: large,
                rows: small, columns: large, inner: small, keep: 3.4445)
            swap(&current, &next)
        }
        guard rows > columns else { return UnsafePointer(current) }
        transpose(current, rows: columns, columns: rows, into: matrix)
        return UnsafePointer(matrix)
    }

    /// The orthogonalised `elements`, row-major.
    package static func orthogonalize(_ elements: [Float], rows: Int, columns: Int) -> [Float] {
        let work = Orthogonalization(rows: rows, columns: columns, pool: BufferPool(idleLimit: 0))
        work.matrix.update(from: elements, count: rows * columns)
        let norm = elements.reduce(0) { $0 + $1 * $1 }.squareRoot()
        defer { withExtendedLifetime(work) {} }
        return Array(UnsafeBufferPointer(start: work.orthogonalize(norm: norm), count: rows * columns))
    }

    private func transpose(
        _ source: UnsafePointer<Float>, rows: Int, columns: Int, into destination: UnsafeMutablePointer<Float>
    ) {
        for row in 0..<rows {
            for column in 0..<columns { destination[column * rows + row] = source[row * columns + column] }
        }
    }
}
