internal import CTrainKernels

/// Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019) over rows.
struct Normalization: Sendable {
    let weight: Int
    let bias: Int?
    let width: Int
    let isCentred: Bool

    private static let epsilon: Float = 1e-5

    /// - Parameter statistics: [rows, 2], for the way back.
    func forward(
        _ weights: ParameterPointers, _ x: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
        statistics: UnsafeMutablePointer<Float>, rows: Int
    ) {
        cairn_norm(
            rows, width, isCentred ? 1 : 0, Self.epsilon, x, weights[weight], bias.map { weights[$0] }, y, statistics)
    }

    /// Adds to the gradients of x, weight and bias.
    func backward(
        _ weights: ParameterPointers, _ gradients: GradientPointers, x: UnsafePointer<Float>,
        statistics: UnsafePointer<Float>, dy: UnsafePointer<Float>, dx: UnsafeMutablePointer<Float>, rows: Int
    ) {
        cairn_norm_backward(
            rows, width, isCentred ? 1 : 0, x, statistics, weights[weight], dy, dx, gradients[weight],
            bias.map { gradients[$0] })
    }
}
