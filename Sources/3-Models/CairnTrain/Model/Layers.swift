internal import COpenBLAS
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

/// The feed-forward part of a layer, or one of its experts: down(gelu(up(x))) or down(silu(gate(x)) · up(x)).
struct FeedForward: Sendable {
    let gate: Linear?
    let up: Linear
    let down: Linear

    /// From x, [rows, width], to what goes into ``down``, [rows, inner].
    ///
    /// - Parameters:
    ///   - gated: [rows, inner], with a gate only.
    ///   - raised: [rows, inner].
    func activate(
        _ weights: ParameterPointers, _ x: UnsafePointer<Float>, gated: UnsafeMutablePointer<Float>,
        raised: UnsafeMutablePointer<Float>, into activated: UnsafeMutablePointer<Float>, rows: Int
    ) {
        let inner = up.outputs
        up.forward(weights, x, into: raised, stride: inner, rows: rows)
        if let gate {
            gate.forward(weights, x, into: gated, stride: inner, rows: rows)
            cairn_swiglu(rows * inner, gated, raised, activated)
        } else {
            cairn_gelu(rows * inner, raised, activated)
        }
    }

    /// Adds to the gradients of the parameters, and computes that of x.
    ///
    /// - Parameters:
    ///   - wide: [rows, inner], for the gradient on the way.
    ///   - gateGradient: [rows, inner], with a gate only.
    func backward(
        _ weights: ParameterPointers, _ gradients: GradientPointers, x: UnsafePointer<Float>,
        gated: UnsafePointer<Float>, raised: UnsafePointer<Float>, activated: UnsafePointer<Float>,
        dy: UnsafePointer<Float>, dx: UnsafeMutablePointer<Float>, wide: UnsafeMutablePointer<Float>,
        gateGradient: UnsafeMutablePointer<Float>, rows: Int
    ) {
        let inner = up.outputs
        down.backward(weights, gradients, x: activated, dy: dy, stride: down.outputs, dx: wide, rows: rows)
        if let gate {
            // `wide` turns from the gradient of the product into that of `up`.
            cairn_swiglu_backward(rows * inner, gated, raised, wide, gateGradient, wide)
            gate.backward(weights, gradients, x: x, dy: gateGradient, stride: inner, dx: dx, rows: rows)
        } else {
            cairn_gelu_backward(rows * inner, raised, wide, wide)
        }
        up.backward(
            weights, gradients, x: x, dy: wide, stride: inner, dx: dx, accumulate: gate != nil, rows: rows)
    }
}

/// Experts that share the tokens of a layer.
struct ExpertLayer: Sendable {
    let configuration: ExpertConfiguration
    /// Scores each expert; no bias.
    let router: Linear
    /// Those that are computed here.
    let experts: [FeedForward]
}
