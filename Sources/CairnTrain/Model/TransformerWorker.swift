internal import CTrainKernels
internal import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The passes of a transformer, in buffers that are made once.
///
/// `@unchecked Sendable`: one pass at a time uses it.
final class TransformerWorker: NetworkWorker, @unchecked Sendable {
    /// What the way back needs of one layer; R = sequences · context rows.
    private struct Activations {
        let input: UnsafeMutablePointer<Float>  // [R, width]
        let normed: UnsafeMutablePointer<Float>  // [R, width]
        let statistics: UnsafeMutablePointer<Float>  // [R, 2]
        let qkv: UnsafeMutablePointer<Float>  // [R, 3 width]
        let probabilities: UnsafeMutablePointer<Float>  // [sequences, heads, context, context]
        let attended: UnsafeMutablePointer<Float>  // [R, width]
        let middle: UnsafeMutablePointer<Float>  // [R, width]
        let middleNormed: UnsafeMutablePointer<Float>  // [R, width]
        let middleStatistics: UnsafeMutablePointer<Float>  // [R, 2]
        let gate: UnsafeMutablePointer<Float>  // [R, inner], SwiGLU only
        let up: UnsafeMutablePointer<Float>  // [R, inner]
        let activated: UnsafeMutablePointer<Float>  // [R, inner]

        init(_ arena: Arena, _ c: TransformerConfiguration, sequences: Int) {
            let rows = sequences * c.context
            let inner = c.feedForwardMultiple * c.width
            input = arena.floats(rows * c.width)
            normed = arena.floats(rows * c.width)
            statistics = arena.floats(rows * 2)
            qkv = arena.floats(rows * 3 * c.width)
            probabilities = arena.floats(sequences * c.heads * c.context * c.context)
            attended = arena.floats(rows * c.width)
            middle = arena.floats(rows * c.width)
            middleNormed = arena.floats(rows * c.width)
            middleStatistics = arena.floats(rows * 2)
            gate = arena.floats(c.feedForward == .swiglu ? rows * inner : 0)
            up = arena.floats(rows * inner)
            activated = arena.floats(rows * inner)
        }
    }

    private let network: Transformer
    private let capacity: Int
    private let arena: Arena
    private let attention: CausalAttention
    private let layers: [Activations]
    private let output: UnsafeMutablePointer<Float>  // [R, width]
    private let outputNormed: UnsafeMutablePointer<Float>  // [R, width]
    private let outputStatistics: UnsafeMutablePointer<Float>  // [R, 2]
    private let logits: UnsafeMutablePointer<Float>  // [R, vocabulary]
    private let stream: UnsafeMutablePointer<Float>  // [R, width], gradient of the residual stream
    private let narrow: UnsafeMutablePointer<Float>  // [R, width]
    private let wide: UnsafeMutablePointer<Float>  // [R, inner or 3 width]
    private let gateGradient: UnsafeMutablePointer<Float>  // [R, inner]
    private let scores: UnsafeMutablePointer<Float>  // [64, context]
    private let cosines: UnsafeMutablePointer<Float>  // [context, head width / 2]
    private let sines: UnsafeMutablePointer<Float>  // [context, head width / 2]

    init(_ network: Transformer, sequences: Int, pool: BufferPool) {
        MatrixProduct.prepare()
        let c = network.configuration
        let arena = Arena(pool: pool)
        let rows = sequences * c.context
        let inner = c.feedForwardMultiple * c.width
        self.network = network
        self.arena = arena
        capacity = sequences
        attention = CausalAttention(heads: c.heads, headWidth: c.width / c.heads, context: c.context)
        layers = (0..<c.layers).map { _ in Activations(arena, c, sequences: sequences) }
        output = arena.floats(rows * c.width)
        outputNormed = arena.floats(rows * c.width)
        outputStatistics = arena.floats(rows * 2)
        logits = arena.floats(rows * c.vocabularySize)
        stream = arena.floats(rows * c.width)
        narrow = arena.floats(rows * c.width)
        wide = arena.floats(rows * max(inner, 3 * c.width))
        gateGradient = arena.floats(c.feedForward == .swiglu ? rows * inner : 0)
        scores = arena.floats(64 * c.context)
        let half = c.width / c.heads / 2
        cosines = arena.floats(c.context * half)
        sines = arena.floats(c.context * half)
        for position in 0..<c.context {
            for pair in 0..<half {
                let angle = Double(position) * pow(10000, -Double(pair) / Double(max(1, half)))
                cosines[position * half + pair] = Float(cos(angle))
                sines[position * half + pair] = Float(sin(angle))
            }
        }
    }

    func run(
        _ examples: Examples, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) -> PassResult {
        precondition(examples.count <= capacity, "more examples than the worker has room for")
        guard let tokens = examples.inputs else { preconditionFailure("a transformer needs tokens") }
        let rows = examples.count * network.configuration.context
        forward(tokens, sequences: examples.count, weights)
        var result = PassResult()
        result.lossSum = cairn_cross_entropy(
            rows, network.configuration.vocabularySize, examples.targets, scale, logits, &result.correctCount)
        if let gradients { backward(tokens, sequences: examples.count, weights, gradients) }
        return result
    }

    private func forward(_ tokens: UnsafePointer<Int32>, sequences: Int, _ weights: ParameterPointers) {
        let c = network.configuration
        let rows = sequences * c.context
        let inner = c.feedForwardMultiple * c.width
        let first = layers.first?.input ?? output
        cairn_gather(rows, c.width, tokens, weights[network.embedding], first)
        if let positions = network.positions {
            for sequence in 0..<sequences {
                cairn_add(c.context * c.width, weights[positions], first + sequence * c.context * c.width)
            }
        }
        for (index, layer) in network.layers.enumerated() {
            let a = layers[index]
            let next = index + 1 < layers.count ? layers[index + 1].input : output
            layer.attentionNorm.forward(weights, a.input, into: a.normed, statistics: a.statistics, rows: rows)
            for (part, projection) in layer.projections.enumerated() {
                projection.forward(weights, a.normed, into: a.qkv + part * c.width, stride: 3 * c.width, rows: rows)
            }
            rotate(a.qkv, sequences: sequences, sign: 1)
            for sequence in 0..<sequences {
                attention.forward(
                    a.qkv + sequence * c.context * 3 * c.width,
                    probabilities: a.probabilities + sequence * c.heads * c.context * c.context,
                    into: a.attended + sequence * c.context * c.width)
            }
            layer.output.forward(
                weights, a.attended, residual: a.input, into: a.middle, stride: c.width, rows: rows)
            layer.feedForwardNorm.forward(
                weights, a.middle, into: a.middleNormed, statistics: a.middleStatistics, rows: rows)
            layer.up.forward(weights, a.middleNormed, into: a.up, stride: inner, rows: rows)
            if let gate = layer.gate {
                gate.forward(weights, a.middleNormed, into: a.gate, stride: inner, rows: rows)
                cairn_swiglu(rows * inner, a.gate, a.up, a.activated)
            } else {
                cairn_gelu(rows * inner, a.up, a.activated)
            }
            layer.down.forward(weights, a.activated, residual: a.middle, into: next, stride: c.width, rows: rows)
        }
        network.finalNorm.forward(weights, output, into: outputNormed, statistics: outputStatistics, rows: rows)
        network.head.forward(weights, outputNormed, into: logits, stride: c.vocabularySize, rows: rows)
    }

    private func backward(
        _ tokens: UnsafePointer<Int32>, sequences: Int, _ weights: ParameterPointers, _ gradients: GradientPointers
    ) {
        let c = network.configuration
        let rows = sequences * c.context
        let inner = c.feedForwardMultiple * c.width
        network.head.backward(
            weights, gradients, x: outputNormed, dy: logits, stride: c.vocabularySize, dx: narrow, rows: rows)
        stream.update(repeating: 0, count: rows * c.width)
        network.finalNorm.backward(
            weights, gradients, x: output, statistics: outputStatistics, dy: narrow, dx: stream, rows: rows)
        for (index, layer) in network.layers.enumerated().reversed() {
            let a = layers[index]
            layer.down.backward(
                weights, gradients, x: a.activated, dy: stream, stride: c.width, dx: wide, rows: rows)
            if let gate = layer.gate {
                // `wide` turns from the gradient of the product into that of `up`.
                cairn_swiglu_backward(rows * inner, a.gate, a.up, wide, gateGradient, wide)
                gate.backward(
                    weights, gradients, x: a.middleNormed, dy: gateGradient, stride: inner, dx: narrow, rows: rows)
            } else {
                cairn_gelu_backward(rows * inner, a.up, wide, wide)
            }
            layer.up.backward(
                weights, gradients, x: a.middleNormed, dy: wide, stride: inner, dx: narrow,
                accumulate: layer.gate != nil, rows: rows)
            layer.feedForwardNorm.backward(
                weights, gradients, x: a.middle, statistics: a.middleStatistics, dy: narrow, dx: stream, rows: rows)
            layer.output.backward(
                weights, gradients, x: a.attended, dy: stream, stride: c.width, dx: narrow, rows: rows)
            for sequence in 0..<sequences {
                attention.backward(
                    a.qkv + sequence * c.context * 3 * c.width,
                    probabilities: a.probabilities + sequence * c.heads * c.context * c.context,
                    dy: narrow + sequence * c.context * c.width,
                    dqkv: wide + sequence * c.context * 3 * c.width, scratch: scores)
            }
            rotate(wide, sequences: sequences, sign: -1)
            for (part, projection) in layer.projections.enumerated() {
                projection.backward(
                    weights, gradients, x: a.normed, dy: wide + part * c.width, stride: 3 * c.width, dx: narrow,
                    accumulate: part > 0, rows: rows)
            }
            layer.attentionNorm.backward(
                weights, gradients, x: a.input, statistics: a.statistics, dy: narrow, dx: stream, rows: rows)
        }
        cairn_scatter_add(rows, c.width, tokens, stream, gradients[network.embedding])
        if let positions = network.positions {
            for sequence in 0..<sequences {
                cairn_add(c.context * c.width, stream + sequence * c.context * c.width, gradients[positions])
            }
        }
    }

    /// Turns queries and keys by their positions.
    private func rotate(_ qkv: UnsafeMutablePointer<Float>, sequences: Int, sign: Float) {
        let c = network.configuration
        guard c.positions == .rotary else { return }
        for sequence in 0..<sequences {
            cairn_rotate(
                c.context, 2 * c.heads, c.width / c.heads, 3 * c.width, cosines, sines, sign,
                qkv + sequence * c.context * 3 * c.width)
        }
    }
}
