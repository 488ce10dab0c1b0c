internal import COpenBLAS

/// Single-precision matrix products, single-threaded: callers run several at once.
///
/// One thread each keeps the order of every sum fixed, whatever the load of the machine.
enum MatrixProduct {
    private static let settings: Void = openblas_set_num_threads(1)

    /// Makes the library single-threaded. To be called before the first product.
    static func prepare() { settings }

    /// c = scale · a·b + keep · c, `a` being [rows, inner] and `b` [inner, columns] after transposition.
    @inline(__always)
    static func multiply(
        _ a: UnsafePointer<Float>, stride aStride: Int, transposed aTransposed: Bool = false,
        _ b: UnsafePointer<Float>, stride bStride: Int, secondTransposed bTransposed: Bool = false,
        into c: UnsafeMutablePointer<Float>, stride cStride: Int,
        rows: Int, columns: Int, inner: Int, scale: Float = 1, keep: Float = 0
    ) {
        cblas_sgemm(
            CblasRowMajor, aTransposed ? CblasTrans : CblasNoTrans, bTransposed ? CblasTrans : CblasNoTrans,
            blasint(rows), blasint(columns), blasint(inner), scale, a, blasint(aStride), b, blasint(bStride), keep,
            c, blasint(cStride))
    }
}
