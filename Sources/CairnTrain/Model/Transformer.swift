package import CairnTensor

/// A decoder-only transformer, norms before the blocks (Radford et al. 2019; Touvron et al. 2023 with other options).
package struct Transformer: Network {
    struct Layer: Sendable {
        let attentionNorm: Normalization
        /// One fused, or queries, keys and values.
        let projections: [Linear]
        let output: Linear
        let feedForwardNorm: Normalization
        let gate: Linear?
        let up: Linear
        let down: Linear
    }

    let configuration: TransformerConfiguration
    package let parameters: [ParameterSpecification]
    let embedding: Int
    let positions: Int?
    let layers: [Layer]
    let finalNorm: Normalization
    let head: Linear

    /// `configuration` has been validated.
    package init(_ configuration: TransformerConfiguration) {
        let c = configuration
        var list: [ParameterSpecification] = []
        func add(_ name: String, _ shape: Shape, _ role: ParameterRole, _ start: Initialization) -> Int {
            list.append(ParameterSpecification("model." + name, shape, role, start))
            return list.count - 1
        }
        func linear(
            _ name: String, _ inputs: Int, _ outputs: Int, role: ParameterRole = .hidden(blocks: 1),
            deviation: Float = 0.02
        ) -> Linear {
            let weight = add("\(name).weight", [outputs, inputs], role, .normal(deviation: deviation))
            let bias = c.biases ? add("\(name).bias", [outputs], .vector, .zeros) : nil
            return Linear(weight: weight, bias: bias, inputs: inputs, outputs: outputs)
        }
        func norm(_ name: String) -> Normalization {
            let weight = add("\(name).weight", [c.width], .vector, .ones)
            let bias = c.biases && c.norm == .layer ? add("\(name).bias", [c.width], .vector, .zeros) : nil
            return Normalization(weight: weight, bias: bias, width: c.width, isCentred: c.norm == .layer)
        }
        // What writes to the residual stream starts smaller, the more layers add up (GPT-2).
        let residualDeviation = 0.02 / Float(2 * c.layers).squareRoot()
        embedding = add("embedding.weight", [c.vocabularySize, c.width], .edge, .normal(deviation: 0.02))
        positions =
            c.positions == .learned
            ? add("positions.weight", [c.context, c.width], .edge, .normal(deviation: 0.02)) : nil
        let inner = c.feedForwardMultiple * c.width
        layers = (0..<c.layers).map { index in
            let name = "layers.\(index)"
            return Layer(
                attentionNorm: norm("\(name).attention_norm"),
                projections: c.fusedQKV
                    ? [linear("\(name).attention.qkv", c.width, 3 * c.width, role: .hidden(blocks: 3))]
                    : ["query", "key", "value"].map { linear("\(name).attention.\($0)", c.width, c.width) },
                output: linear("\(name).attention.output", c.width, c.width, deviation: residualDeviation),
                feedForwardNorm: norm("\(name).mlp_norm"),
                gate: c.feedForward == .swiglu ? linear("\(name).mlp.gate", c.width, inner) : nil,
                up: linear("\(name).mlp.up", c.width, inner),
                down: linear("\(name).mlp.down", inner, c.width, deviation: residualDeviation))
        }
        finalNorm = norm("final_norm")
        head =
            c.tiedEmbeddings
            ? Linear(weight: embedding, bias: nil, inputs: c.width, outputs: c.vocabularySize)
            : Linear(
                weight: add("head.weight", [c.vocabularySize, c.width], .edge, .normal(deviation: 0.02)), bias: nil,
                inputs: c.width, outputs: c.vocabularySize)
        self.configuration = c
        parameters = list
    }

    package var ties: [(name: String, target: String)] {
        configuration.tiedEmbeddings ? [(name: "model.head.weight", target: "model.embedding.weight")] : []
    }

    package var value: Value { configuration.value }

    package var targetsPerExample: Int { configuration.context }

    package func makeWorker(exampleCapacity: Int, pool: BufferPool) -> any NetworkWorker {
        TransformerWorker(self, sequences: exampleCapacity, pool: pool)
    }
}
