internal import CTrainKernels

extension TransformerWorker {
    /// Runs the part's layers: from the tokens in the first stage, from ``input`` in the others, to ``output``.
    ///
    /// - Returns: ``PassResult/balanceSum`` of these layers.
    func forward(_ examples: Examples, _ weights: ParameterPointers) throws(Partners.Failure) -> Double {
        precondition(examples.count <= capacity, "more examples than the worker has room for")
        var balance = 0.0
        if network.part.isFirstStage { try embed(examples, weights) }
        for index in network.layers.indices {
            let next = index + 1 < layers.count ? layers[index + 1].input : output
            let layer = block(at: index)
            try attend(layer, layers[index], sequences: examples.count, weights)
            switch layer.secondHalf {
            case .feedForward(let part):
                try feedForward(layer, part, layers[index], into: next, sequences: examples.count, weights)
            case .experts(let experts):
                balance += try expertsForward(
                    layer, experts, layers[index], into: next, sequences: examples.count, weights)
            }
        }
        return balance
    }

    private func embed(_ examples: Examples, _ weights: ParameterPointers) throws(Partners.Failure) {
        guard let tokens = examples.inputs, let embedding = network.embedding else {
            preconditionFailure("a transformer needs tokens")
        }
        let c = network.configuration
        let vocabulary = network.part.vocabulary
        let rows = examples.count * c.context
        cairn_gather(
            rows, c.width, tokens, Int32(vocabulary.lowerBound), Int32(vocabulary.count), weights[embedding], input)
        try partners.sum(input, count: rows * c.width)
        guard let positions = network.positions else { return }
        for sequence in 0..<examples.count {
            cairn_add(c.context * c.width, weights[positions], input + sequence * c.context * c.width)
        }
    }

    private func attend(
        _ layer: Transformer.Layer, _ a: Activations, sequences: Int, _ weights: ParameterPointers
    ) throws(Partners.Failure) {
        let c = network.configuration
        let rows = sequences * c.context
        let width = attention.heads * attention.headWidth
        layer.attentionNorm.forward(weights, a.input, into: a.normed, statistics: a.statistics, rows: rows)
        for (part, projection) in layer.projections.enumerated() {
            projection.forward(weights, a.normed, into: a.qkv + part * width, stride: 3 * width, rows: rows)
        }
        rotate(a.qkv, sequences: sequences, sign: 1)
        for sequence in 0..<sequences {
            attention.forward(
                a.qkv + sequence * c.context * 3 * width,
                probabilities: a.probabilities + sequence * attention.heads * c.context * c.context,
                into: a.attended + sequence * c.context * width)
        }
        try join(layer.output, a.attended, residual: a.input, into: a.middle, rows: rows, weights)
    }

    private func feedForward(
        _ layer: Transformer.Layer, _ part: FeedForward, _ a: Activations, into next: UnsafeMutablePointer<Float>,
        sequences: Int, _ weights: ParameterPointers
    ) throws(Partners.Failure) {
        let rows = sequences * network.configuration.context
        layer.feedForwardNorm.forward(
            weights, a.middle, into: a.middleNormed, statistics: a.middleStatistics, rows: rows)
        part.activate(weights, a.middleNormed, gated: a.gate, raised: a.up, into: a.activated, rows: rows)
        try join(part.down, a.activated, residual: a.middle, into: next, rows: rows, weights)
    }

    /// residual + x·Wᵀ + b, each partner having some of the columns of W and of x.
    private func join(
        _ layer: Linear, _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>,
        into y: UnsafeMutablePointer<Float>, rows: Int, _ weights: ParameterPointers
    ) throws(Partners.Failure) {
        // Residual and bias are to be in the sum once.
        let isFirst = partners.index == 0
        layer.forward(
            weights, x, residual: isFirst ? residual : nil, biased: isFirst, into: y, stride: layer.outputs, rows: rows)
        try partners.sum(y, count: rows * layer.outputs)
    }

    /// The loss of what is in ``output``, in the last stage. Leaves its gradient times `scale` where the scores were.
    func loss(_ examples: Examples, _ weights: ParameterPointers, scale: Float) throws(Partners.Failure) -> PassResult {
        guard let finalNorm = network.finalNorm, let head = network.head else {
            preconditionFailure("only the last stage knows the loss")
        }
        let rows = examples.count * network.configuration.context
        let columns = head.outputs
        finalNorm.forward(weights, output, into: outputNormed, statistics: outputStatistics, rows: rows)
        head.forward(weights, outputNormed, into: logits, stride: columns, rows: rows)
        var result = PassResult()
        if partners.count == 1 {
            result.lossSum = cairn_cross_entropy(rows, columns, examples.targets, scale, logits, &result.correctCount)
            return result
        }
        let first = Int32(network.part.vocabulary.lowerBound)
        cairn_cross_entropy_part(
            rows, columns, examples.targets, first, logits, logitStatistics + partners.index * rows * 3)
        try partners.gather(logitStatistics, count: rows * 3)
        result.lossSum = cairn_cross_entropy_join(
            rows, columns, examples.targets, first, scale, partners.count, partners.index, logitStatistics, logits,
            &result.correctCount)
        return result
    }
}

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
            let layer = block(at: index)
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
