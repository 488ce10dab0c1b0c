internal import CTrainKernels

extension TransformerWorker {
    /// Adds to the gradients of the part's parameters: from the loss in the last stage, from ``stream`` in the others.
    /// Leaves in ``stream`` what the stage before continues with.
    func backward(
        _ examples: Examples, _ weights: ParameterPointers, _ gradients: GradientPointers, scale: Float
    ) throws(Partners.Failure) {
        let c = network.configuration
        let rows = examples.count * c.context
        if let finalNorm = network.finalNorm, let head = network.head {
            head.backward(
                weights, gradients, x: outputNormed, dy: logits, stride: head.outputs, dx: narrow, rows: rows)
            try partners.sum(narrow, count: rows * c.width)
            stream.update(repeating: 0, count: rows * c.width)
            finalNorm.backward(
                weights, gradients, x: output, statistics: outputStatistics, dy: narrow, dx: stream, rows: rows)
        }
        for index in network.layers.indices.reversed() {
            let layer = network.layers[index]
            switch layer.secondHalf {
            case .feedForward(let part):
                try feedForwardBackward(layer, part, layers[index], rows: rows, weights, gradients)
            case .experts(let experts):
                try expertsBackward(
                    layer, experts, layers[index], sequences: examples.count, weights, gradients, scale: scale)
            }
            try attentionBackward(layer, layers[index], sequences: examples.count, weights, gradients)
        }
        guard network.part.isFirstStage, let embedding = network.embedding, let tokens = examples.inputs else { return }
        let vocabulary = network.part.vocabulary
        cairn_scatter_add(
            rows, c.width, tokens, Int32(vocabulary.lowerBound), Int32(vocabulary.count), stream,
            gradients[embedding])
        guard let positions = network.positions else { return }
        for sequence in 0..<examples.count {
            cairn_add(c.context * c.width, stream + sequence * c.context * c.width, gradients[positions])
        }
    }

    private func feedForwardBackward(
        _ layer: Transformer.Layer, _ part: FeedForward, _ a: Activations, rows: Int, _ weights: ParameterPointers,
        _ gradients: GradientPointers
    ) throws(Partners.Failure) {
        let width = network.configuration.width
        part.backward(
            weights, gradients, x: a.middleNormed, gated: a.gate, raised: a.up, activated: a.activated, dy: stream,
            dx: narrow, wide: wide, gateGradient: gateGradient, rows: rows)
        try partners.sum(narrow, count: rows * width)
        layer.feedForwardNorm.backward(
            weights, gradients, x: a.middle, statistics: a.middleStatistics, dy: narrow, dx: stream, rows: rows)
    }

    private func attentionBackward(
        _ layer: Transformer.Layer, _ a: Activations, sequences: Int, _ weights: ParameterPointers,
        _ gradients: GradientPointers
    ) throws(Partners.Failure) {
        let c = network.configuration
        let rows = sequences * c.context
        let width = attention.heads * attention.headWidth
        layer.output.backward(weights, gradients, x: a.attended, dy: stream, stride: c.width, dx: narrow, rows: rows)
        for sequence in 0..<sequences {
            attention.backward(
                a.qkv + sequence * c.context * 3 * width,
                probabilities: a.probabilities + sequence * attention.heads * c.context * c.context,
                dy: narrow + sequence * c.context * width,
                dqkv: wide + sequence * c.context * 3 * width, scratch: scores)
        }
        rotate(wide, sequences: sequences, sign: -1)
        for (part, projection) in layer.projections.enumerated() {
            projection.backward(
                weights, gradients, x: a.normed, dy: wide + part * width, stride: 3 * width, dx: narrow,
                accumulate: part > 0, rows: rows)
        }
        try partners.sum(narrow, count: rows * c.width)
        layer.attentionNorm.backward(
            weights, gradients, x: a.input, statistics: a.statistics, dy: narrow, dx: stream, rows: rows)
    }
}
