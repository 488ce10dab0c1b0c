internal import CTrainKernels

/// Softmax attention of each position to itself and what came before, of one sequence, all heads.
///
/// Queries are taken in blocks, so that most of the masked half is never computed.
struct CausalAttention: Sendable {
    let heads: Int
    let headWidth: Int
    let context: Int

    private static let block = 64
    private var width: Int { heads * headWidth }
    private var scale: Float { 1 / Float(headWidth).squareRoot() }

    /// - Parameters:
    ///   - qkv: [context, 3 · width]: queries, keys, values.
    ///   - probabilities: [heads, context, context], for the way back.
    ///   - y: [context, width].
    func forward(
        _ qkv: UnsafePointer<Float>, probabilities: UnsafeMutablePointer<Float>, into y: UnsafeMutablePointer<Float>
    ) {
        for head in 0..<heads {
            let query = qkv + head * headWidth
            let key = query + width
            let value = key + width
            let scores = probabilities + head * context * context
            for first in stride(from: 0, to: context, by: Self.block) {
                let rows = min(Self.block, context - first)
                let seen = first + rows
                let part = scores + first * context
                MatrixProduct.multiply(
                    query + first * 3 * width, stride: 3 * width, key, stride: 3 * width, secondTransposed: true,
                    into: part, stride: context, rows: rows, columns: seen, inner: headWidth)
                cairn_causal_softmax(rows, seen, context, first, scale, part)
                MatrixProduct.multiply(
                    part, stride: context, value, stride: 3 * width,
                    into: y + first * width + head * headWidth, stride: width,
                    rows: rows, columns: headWidth, inner: seen)
            }
        }
    }

    /// - Parameters:
    ///   - dqkv: [context, 3 · width], overwritten.
    ///   - scratch: [64, context].
    func backward(
        _ qkv: UnsafePointer<Float>, probabilities: UnsafePointer<Float>, dy: UnsafePointer<Float>,
        dqkv: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
    ) {
        for head in 0..<heads {
            let query = qkv + head * headWidth
            let key = query + width
            let value = key + width
            let queryGradient = dqkv + head * headWidth
            let keyGradient = queryGradient + width
            let valueGradient = keyGradient + width
            let scores = probabilities + head * context * context
            // From the last block, which sees every position and so clears the sums of keys and values.
            var keep: Float = 0
            for first in stride(from: 0, to: context, by: Self.block).reversed() {
                let rows = min(Self.block, context - first)
                let seen = first + rows
                let part = scores + first * context
                let output = dy + first * width + head * headWidth
                MatrixProduct.multiply(
                    part, stride: context, transposed: true, output, stride: width,
                    into: valueGradient, stride: 3 * width, rows: seen, columns: headWidth, inner: rows, keep: keep)
                MatrixProduct.multiply(
                    output, stride: width, value, stride: 3 * width, secondTransposed: true,
                    into: scratch, stride: seen, rows: rows, columns: seen, inner: headWidth)
                cairn_softmax_backward(rows, seen, context, scale, part, scratch, seen)
                MatrixProduct.multiply(
                    scratch, stride: seen, key, stride: 3 * width,
                    into: queryGradient + first * 3 * width, stride: 3 * width,
                    rows: rows, columns: headWidth, inner: seen)
                MatrixProduct.multiply(
                    scratch, stride: seen, transposed: true, query + first * 3 * width, stride: 3 * width,
                    into: keyGradient, stride: 3 * width, rows: seen, columns: headWidth, inner: rows, keep: keep)
                keep = 1
            }
        }
    }
}
