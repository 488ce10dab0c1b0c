internal import CTrainKernels

/// y = x·Wᵀ + b over rows, W being [outputs, inputs].
struct Linear: Sendable {
    let weight: Int
    let bias: Int?
    let inputs: Int
    let outputs: Int

    /// - Parameters:
    ///   - x: [rows, inputs], dense.
    ///   - residual: [rows, outputs], dense: what y starts from.
    ///   - biased: whether b is added.
    ///   - stride: the distance between rows of y.
    func forward(
        _ weights: ParameterPointers, _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>? = nil,
        biased: Bool = true, into y: UnsafeMutablePointer<Float>, stride: Int, rows: Int
    ) {
        var keep: Float = 0
        let bias = biased ? bias : nil
        if residual != nil || bias != nil {
            cairn_fill_rows(rows, outputs, residual, bias.map { weights[$0] }, y, stride)
            keep = 1
        }
        MatrixProduct.multiply(
            x, stride: inputs, weights[weight], stride: inputs, secondTransposed: true, into: y, stride: stride,
            rows: rows, columns: outputs, inner: inputs, keep: keep)
    }

    /// Adds to the gradients of weight and bias, and computes that of x.
    ///
    /// - Parameter accumulate: whether dx is added to instead of replaced.
    func backward(
        _ weights: ParameterPointers, _ gradients: GradientPointers, x: UnsafePointer<Float>,
        dy: UnsafePointer<Float>, stride: Int, dx: UnsafeMutablePointer<Float>?, accumulate: Bool = false, rows: Int
    ) {
        MatrixProduct.multiply(
            dy, stride: stride, transposed: true, x, stride: inputs, into: gradients[weight], stride: inputs,
            rows: outputs, columns: inputs, inner: rows, keep: 1)
        if let bias { cairn_add_columns(rows, outputs, dy, stride, gradients[bias]) }
        guard let dx else { return }
        MatrixProduct.multiply(
            dy, stride: stride, weights[weight], stride: inputs, into: dx, stride: inputs,
            rows: rows, columns: inputs, inner: outputs, keep: accumulate ? 1 : 0)
    }
}
