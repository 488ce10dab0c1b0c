package import CairnTensor

/// A decoder-only transformer, norms before the blocks (Radford et al. 2019; Touvron et al. 2023 with other options),
/// or the part of it that one rank computes.
package struct Transformer: Network {
    /// What follows attention in a layer.
    enum SecondHalf: Sendable {
        case feedForward(FeedForward)
        case experts(ExpertLayer)
    }

    struct Layer: Sendable {
        let attentionNorm: Normalization
        /// One fused, or queries, keys and values.
        let projections: [Linear]
        let output: Linear
        let feedForwardNorm: Normalization
        let secondHalf: SecondHalf
    }

    let configuration: TransformerConfiguration
    package let part: TransformerPart
    package let parameters: [ParameterSpecification]
    /// The first stage's; also the last one's when it is the head's matrix too.
    let embedding: Int?
    let positions: Int?
    let layers: [Layer]
    /// The last stage's.
    let finalNorm: Normalization?
    let head: Linear?

    /// A whole model. `configuration` has been validated.
    package init(_ configuration: TransformerConfiguration) {
        self.init(configuration, part: TransformerPart(wholeOf: configuration))
    }

    /// A part of a model; the parameters are this part's, in the order and by the names of the whole.
    package init(_ configuration: TransformerConfiguration, part: TransformerPart) {
        let c = configuration
        var list: [ParameterSpecification] = []
        func add(
            _ name: String, _ shape: Shape, _ role: ParameterRole, _ start: Initialization,
            _ sharding: TensorSharding? = nil, expert: Int? = nil
        ) -> Int {
            list.append(ParameterSpecification("model." + name, shape, role, start, sharding, expert: expert))
            return list.count - 1
        }
        /// Rows sharded: each rank computes some of the outputs.
        func columnParallel(
            _ name: String, outputs: Int, sections: Int = 1, unit: Int = 1, expert: Int? = nil
        ) -> Linear {
            let sharding = TensorSharding(dimension: 0, sections: sections, unit: unit)
            let weight = add(
                "\(name).weight", [outputs, c.width], .hidden(blocks: sections), .normal(deviation: 0.02), sharding,
                expert: expert)
            let bias =
                c.biases ? add("\(name).bias", [outputs], .vector, .zeros, sharding, expert: expert) : nil
            return Linear(weight: weight, bias: bias, inputs: c.width, outputs: outputs)
        }
        // What writes to the residual stream starts smaller, the more layers add up (GPT-2).
        let residualDeviation = 0.02 / Float(2 * c.layers).squareRoot()
        /// Columns sharded: each rank computes a term of every output.
        func rowParallel(_ name: String, inputs: Int, unit: Int = 1, expert: Int? = nil) -> Linear {
            let weight = add(
                "\(name).weight", [c.width, inputs], .hidden(blocks: 1), .normal(deviation: residualDeviation),
                TensorSharding(dimension: 1, unit: unit), expert: expert)
            let bias = c.biases ? add("\(name).bias", [c.width], .vector, .zeros, expert: expert) : nil
            return Linear(weight: weight, bias: bias, inputs: inputs, outputs: c.width)
        }
        func norm(_ name: String) -> Normalization {
            let weight = add("\(name).weight", [c.width], .vector, .ones)
            let bias = c.biases && c.norm == .layer ? add("\(name).bias", [c.width], .vector, .zeros) : nil
            return Normalization(weight: weight, bias: bias, width: c.width, isCentred: c.norm == .layer)
        }
        func table(_ name: String) -> Int {
            add(
                name, [part.vocabulary.count, c.width], .edge, .normal(deviation: 0.02), TensorSharding(dimension: 0))
        }
        func feedForward(_ name: String, inner: Int, expert: Int? = nil) -> FeedForward {
            FeedForward(
                gate: c.feedForward == .swiglu
                    ? columnParallel("\(name).gate", outputs: inner, expert: expert) : nil,
                up: columnParallel("\(name).up", outputs: inner, expert: expert),
                down: rowParallel("\(name).down", inputs: inner, expert: expert))
        }
        func secondHalf(_ layer: Int) -> SecondHalf {
            let name = "layers.\(layer).mlp"
            guard let experts = c.experts(in: layer) else {
                return .feedForward(feedForward(name, inner: part.inner.count))
            }
            let router = add("\(name).router.weight", [experts.count, c.width], .edge, .normal(deviation: 0.02))
            return .experts(
                ExpertLayer(
                    configuration: experts,
                    router: Linear(weight: router, bias: nil, inputs: c.width, outputs: experts.count),
                    experts: part.experts.map { expert in
                        feedForward("\(name).experts.\(expert)", inner: part.expertInner.count, expert: expert)
                    }))
        }
        let headWidth = c.width / c.heads
        let attended = part.heads.count * headWidth
        embedding = part.isFirstStage || part.isLastStage && c.tiedEmbeddings ? table("embedding.weight") : nil
        positions =
            c.positions == .learned && part.isFirstStage
            ? add("positions.weight", [c.context, c.width], .edge, .normal(deviation: 0.02)) : nil
        layers = part.layers.map { index in
            let name = "layers.\(index)"
            return Layer(
                attentionNorm: norm("\(name).attention_norm"),
                projections: c.fusedQKV
                    ? [columnParallel("\(name).attention.qkv", outputs: 3 * attended, sections: 3, unit: headWidth)]
                    : ["query", "key", "value"].map {
                        columnParallel("\(name).attention.\($0)", outputs: attended, unit: headWidth)
                    },
                output: rowParallel("\(name).attention.output", inputs: attended, unit: headWidth),
                feedForwardNorm: norm("\(name).mlp_norm"),
                secondHalf: secondHalf(index))
        }
        finalNorm = part.isLastStage ? norm("final_norm") : nil
        head =
            part.isLastStage
            ? Linear(
                weight: (c.tiedEmbeddings ? embedding : nil) ?? table("head.weight"), bias: nil, inputs: c.width,
                outputs: part.vocabulary.count) : nil
        self.configuration = c
        self.part = part
        parameters = list
    }

    package var ties: [(name: String, target: String)] {
        configuration.tiedEmbeddings ? [(name: "model.head.weight", target: "model.embedding.weight")] : []
    }

    package var value: Value { configuration.value }

    package var targetsPerExample: Int { configuration.context }

    package var balanceWeight: Double { configuration.experts?.balance ?? 0 }

    package func makeWorker(exampleCapacity: Int, pool: BufferPool) -> any NetworkWorker {
        TransformerWorker(self, sequences: exampleCapacity, partners: NoPartners(), pool: pool)
    }
}

/// The part of a transformer that one rank computes: some of the layers, and of their matrices some of the heads, of
/// the inner columns and of the tokens, and of the experts some.
package struct TransformerPart: Sendable, Hashable {
    /// The layers of this rank's pipeline stage; the first stage also has the embedding, the last one the head.
    package let layers: Range<Int>
    /// The attention heads whose queries, keys and values are computed here.
    package let heads: Range<Int>
    /// The columns inside the feed-forward part.
    package let inner: Range<Int>
    /// The columns inside each expert.
    package let expertInner: Range<Int>
    /// The experts of each layer that has some.
    package let experts: Range<Int>
    /// The tokens whose vectors and scores are kept here.
    package let vocabulary: Range<Int>
    /// Whether tokens come in here.
    package let isFirstStage: Bool
    /// Whether the loss is computed here.
    package let isLastStage: Bool

    /// The whole model.
    package init(wholeOf configuration: TransformerConfiguration) {
        self.init(of: configuration, layers: 0..<configuration.layers, share: 0, shareCount: 1)
    }

    /// - Parameters:
    ///   - layers: the stage's, not empty.
    ///   - share: which of the `shareCount` parts of each matrix.
    ///   - expertShare: which of the `expertShareCount` parts of the experts.
    package init(
        of configuration: TransformerConfiguration, layers: Range<Int>, share: Int, shareCount: Int,
        expertShare: Int = 0, expertShareCount: Int = 1
    ) {
        self.layers = layers
        heads = Self.balanced(configuration.heads, part: share, of: shareCount)
        inner = Self.balanced(configuration.innerWidth, part: share, of: shareCount)
        expertInner = Self.balanced(configuration.experts?.width ?? 0, part: share, of: shareCount)
        experts = Self.balanced(configuration.experts?.count ?? 0, part: expertShare, of: expertShareCount)
        vocabulary = Self.balanced(configuration.vocabularySize, part: share, of: shareCount)
        isFirstStage = layers.lowerBound == 0
        isLastStage = layers.upperBound == configuration.layers
    }

    /// Part `part` of `0..<count` in `parts` parts that differ by at most one, the larger ones first.
    package static func balanced(_ count: Int, part: Int, of parts: Int) -> Range<Int> {
        func start(_ part: Int) -> Int { count / parts * part + min(part, count % parts) }
        return start(part)..<start(part + 1)
    }
}

/// The ranks that compute parts of the same layers, as one of them sees the others in a pass.
///
/// What is computed of parts of a matrix is a term of a sum, and what an expert computes goes back to the rank whose
/// tokens they are; these calls join it. A single rank has no partners: ``NoPartners``, at no cost.
protocol LayerPartners: Sendable {
    /// What a call may throw; `Never` where nothing can fail.
    associatedtype Failure: Error
    /// How many ranks hold parts of the same matrices, this one included.
    var count: Int { get }
    /// Which one this is.
    var index: Int { get }
    /// Replaces the values by the sums over those ranks; all get the same bits.
    func sum(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)
    /// Fills `values`, [ranks, count], with what every one of those ranks has in its own row.
    func gather(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)

    /// Over how many ranks the experts of a layer are divided, this one included.
    var expertRankCount: Int { get }
    /// Which one this is.
    var expertRankIndex: Int { get }
    /// The numbers of each of those ranks, in their order.
    func gatherCounts(_ counts: [Int]) throws(Failure) -> [[Int]]
    /// Gives each of those ranks its part of `values` and takes what they have for this one; parts lie in the ranks'
    /// order.
    func exchange(
        _ values: UnsafePointer<Float>, counts: [Int], into received: UnsafeMutablePointer<Float>,
        receivedCounts: [Int]
    ) throws(Failure)
}

/// A rank that holds whole matrices and all experts.
struct NoPartners: LayerPartners {
    var count: Int { 1 }
    var index: Int { 0 }
    var expertRankCount: Int { 1 }
    var expertRankIndex: Int { 0 }

    @inline(__always) func sum(_ values: UnsafeMutablePointer<Float>, count: Int) {}
    @inline(__always) func gather(_ values: UnsafeMutablePointer<Float>, count: Int) {}
    func gatherCounts(_ counts: [Int]) -> [[Int]] { [counts] }

    func exchange(
        _ values: UnsafePointer<Float>, counts: [Int], into received: UnsafeMutablePointer<Float>,
        receivedCounts: [Int]
    ) {
        received.update(from: values, count: counts.reduce(0, +))
    }
}
