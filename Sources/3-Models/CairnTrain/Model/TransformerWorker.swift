internal import CTrainKernels
internal import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The passes of a transformer or of a rank's part of one, in buffers that are made once.
///
/// Widths in the shapes below are this part's: `attended` is that of its heads, `inner` its share of the feed-forward
/// part. What a part computes of the residual stream is a term of a sum over ``LayerPartners``; they join at four
/// places each way: after the embedding, after attention, after the feed-forward part and in the loss, and coming back
/// after the gradients of the inputs of head, feed-forward part and attention. Tokens and what experts make of them go
/// to and fro between the ranks that the experts are sharded over.
///
/// `@unchecked Sendable`: one pass at a time uses it.
final class TransformerWorker<Partners: LayerPartners>: @unchecked Sendable {
    /// What the way back needs of one layer; R = sequences · context rows.
    struct Activations {
        let input: UnsafeMutablePointer<Float>  // [R, width]
        let normed: UnsafeMutablePointer<Float>  // [R, width]
        let statistics: UnsafeMutablePointer<Float>  // [R, 2]
        let qkv: UnsafeMutablePointer<Float>  // [R, 3 attended]
        let probabilities: UnsafeMutablePointer<Float>  // [sequences, heads, context, context]
        let attended: UnsafeMutablePointer<Float>  // [R, attended]
        let middle: UnsafeMutablePointer<Float>  // [R, width]
        let middleNormed: UnsafeMutablePointer<Float>  // [R, width]
        let middleStatistics: UnsafeMutablePointer<Float>  // [R, 2]
        // Without experts.
        let gate: UnsafeMutablePointer<Float>  // [R, inner], SwiGLU only
        let up: UnsafeMutablePointer<Float>  // [R, inner]
        let activated: UnsafeMutablePointer<Float>  // [R, inner]
        let experts: ExpertActivations?

        init(
            _ arena: Arena, _ c: TransformerConfiguration, _ attention: CausalAttention, inner: Int, sequences: Int,
            experts: ExpertActivations?
        ) {
            let rows = sequences * c.context
            let inner = experts == nil ? inner : 0
            self.experts = experts
            let width = attention.heads * attention.headWidth
            input = arena.floats(rows * c.width)
            normed = arena.floats(rows * c.width)
            statistics = arena.floats(rows * 2)
            qkv = arena.floats(rows * 3 * width)
            probabilities = arena.floats(sequences * attention.heads * c.context * c.context)
            attended = arena.floats(rows * width)
            middle = arena.floats(rows * c.width)
            middleNormed = arena.floats(rows * c.width)
            middleStatistics = arena.floats(rows * 2)
            gate = arena.floats(c.feedForward == .swiglu ? rows * inner : 0)
            up = arena.floats(rows * inner)
            activated = arena.floats(rows * inner)
        }
    }

    let network: Transformer
    let partners: Partners
    let capacity: Int
    private let arena: Arena
    let attention: CausalAttention
    let layers: [Activations]
    /// Whether the first two blocks change places, and the last two: of four blocks or more that are all alike.
    var swapsEnds = false
    let expertScratch: ExpertScratch?
    /// What comes out of the last layer, which another stage may continue with.
    let output: UnsafeMutablePointer<Float>  // [R, width]
    let outputNormed: UnsafeMutablePointer<Float>  // [R, width]
    let outputStatistics: UnsafeMutablePointer<Float>  // [R, 2]
    let logits: UnsafeMutablePointer<Float>  // [R, vocabulary]
    let logitStatistics: UnsafeMutablePointer<Float>  // [partners, R, 3]
    /// The gradient of the residual stream; going back it arrives here, and leaves from here.
    let stream: UnsafeMutablePointer<Float>  // [R, width]
    let narrow: UnsafeMutablePointer<Float>  // [R, width]
    let wide: UnsafeMutablePointer<Float>  // [R, inner or 3 attended]
    let gateGradient: UnsafeMutablePointer<Float>  // [R, inner]
    let scores: UnsafeMutablePointer<Float>  // [64, context]
    let cosines: UnsafeMutablePointer<Float>  // [context, head width / 2]
    let sines: UnsafeMutablePointer<Float>  // [context, head width / 2]

    /// Where the residual stream comes in from the stage before.
    var input: UnsafeMutablePointer<Float> { layers.first?.input ?? output }

    init(_ network: Transformer, sequences: Int, partners: Partners, pool: BufferPool) {
        MatrixProduct.prepare()
        let c = network.configuration
        let part = network.part
        let arena = Arena(pool: pool)
        let rows = sequences * c.context
        let inner = part.inner.count
        let attention = CausalAttention(heads: part.heads.count, headWidth: c.width / c.heads, context: c.context)
        let scoreRows = part.isLastStage ? rows : 0
        self.network = network
        self.partners = partners
        self.arena = arena
        self.attention = attention
        capacity = sequences
        layers = part.layers.map { layer in
            let experts = c.experts(in: layer).map { experts in
                ExpertActivations(
                    arena, experts, rows: rows, width: c.width, inner: part.expertInner.count,
                    isGated: c.feedForward == .swiglu, pool: pool)
            }
            return Activations(arena, c, attention, inner: inner, sequences: sequences, experts: experts)
        }
        expertScratch = c.experts.map { experts in
            ExpertScratch(
                arena, experts, rows: rows, width: c.width, inner: part.expertInner.count,
                isGated: c.feedForward == .swiglu, pool: pool)
        }
        output = arena.floats(rows * c.width)
        outputNormed = arena.floats(scoreRows * c.width)
        outputStatistics = arena.floats(scoreRows * 2)
        logits = arena.floats(scoreRows * part.vocabulary.count)
        logitStatistics = arena.floats(partners.count > 1 ? partners.count * scoreRows * 3 : 0)
        stream = arena.floats(rows * c.width)
        narrow = arena.floats(rows * c.width)
        wide = arena.floats(rows * max(inner, 3 * attention.heads * attention.headWidth))
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

    /// The block that comes at a place.
    func block(at place: Int) -> Transformer.Layer {
        let count = network.layers.count
        guard swapsEnds, place < 2 || place >= count - 2 else { return network.layers[place] }
        return network.layers[place < 2 ? 1 - place : 2 * count - 3 - place]
    }

    /// Turns queries and keys by their positions.
    func rotate(_ qkv: UnsafeMutablePointer<Float>, sequences: Int, sign: Float) {
        let c = network.configuration
        guard c.positions == .rotary else { return }
        let heads = attention.heads
        let stride = 3 * heads * attention.headWidth
        for sequence in 0..<sequences {
            cairn_rotate(
                c.context, 2 * heads, attention.headWidth, stride, cosines, sines, sign,
                qkv + sequence * c.context * stride)
        }
    }
}

extension TransformerWorker: NetworkWorker where Partners == NoPartners {
    func run(
        _ examples: Examples, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) -> PassResult {
        var result = PassResult()
        result.balanceSum = forward(examples, weights)
        result.add(loss(examples, weights, scale: scale))
        if let gradients { backward(examples, weights, gradients, scale: scale) }
        return result
    }
}
