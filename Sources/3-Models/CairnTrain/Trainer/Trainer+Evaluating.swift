package import CairnBase
public import CairnTensor

extension Trainer {
    /// A trainer of the language model that a checkpoint's values tell of, to evaluate weights with; its own are those
    /// of a run at the beginning.
    ///
    /// - Parameters:
    ///   - values: of which `model` is needed, `tokenizer` and `trainer` are used.
    ///   - text: the bytes that the run learnt from.
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for values that are not a run's;
    ///   ``CairnError/Code/invalidArgument`` for a text that does not fit the model.
    public convenience init(evaluating values: [String: Value], text: [UInt8]) throws {
        let model = try TransformerConfiguration(values["model"])
        let tokenizer = try values["tokenizer"].map { value throws(CairnError) in try Tokenizer(value) }
        var options = TrainingOptions()
        if let trainer = values["trainer"] {
            options.precision = try ValueFields("trainer", trainer).choice("precision")
        }
        try self.init(
            transformer: model, text: TextDataset(text: text, tokenizer: tokenizer, context: model.context),
            optimizer: .sgd(), schedule: LearningRateSchedule(peak: 0), options: options)
    }
}

extension Trainer {
    /// What each layer of a classifier puts out for the first `limit` examples of a split, all by default, as matrices
    /// `[examples, units]`: the hidden layers behind their activation, the last one the scores of the classes.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for a model that is not a chain of layers.
    package func layerOutputs(_ split: Split = .training, limit: Int = .max) throws -> [Tensor] {
        guard let worker = workers.first as? PerceptronWorker, let perceptron = network as? Perceptron else {
            throw CairnError(
                .unsupported, "only a chain of layers tells what its layers put out",
                .init(expected: "a classifier of digits"))
        }
        let count = min(max(0, limit), source.count(split))
        var outputs = perceptron.layers.map { _ in [Float]() }
        for start in stride(from: 0, to: count, by: worker.capacity) {
            var examples = Batch()
            for index in start..<min(count, start + worker.capacity) { source.append(index, of: split, to: &examples) }
            let part = expanded.withPointers(weights) { weights in
                examples.withExamples { worker.layerOutputs($0, weights: weights) }
            }
            for (layer, values) in part.enumerated() { outputs[layer] += values }
        }
        return try zip(perceptron.layers, outputs).map { layer, values in
            try Tensor(values, Shape(checking: [count, layer.outputs]))
        }
    }
}

/// What a model makes of a few fixed sequences: tells whether a checkpoint, however it was loaded, converted, divided
/// or rewritten, still computes what it did when it was saved. Checksums tell that of its bytes, not of its meaning.
package struct Fingerprint: Sendable, Hashable {
    /// The difference that rounding alone explains, in nats.
    package static let tolerance = 1e-4

    /// The mean loss of each of the first validation examples.
    package var losses: [Double]

    package init(losses: [Double]) { self.losses = losses }

    /// The fingerprint that a checkpoint's value `fingerprint` tells.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for what is not a fingerprint.
    package init(_ value: Value?) throws(CairnError) {
        let fields = try ValueFields("fingerprint", value)
        try fields.expect("kind", "example-losses")
        losses = try fields.doubles("losses")
        try fields.allowOnly(["kind", "losses"])
    }

    /// As a value to store.
    package var value: Value {
        .dictionary(["kind": "example-losses", "losses": .list(losses.map { .double($0) })])
    }

    /// The largest difference of an example's loss; infinite where not the same examples were looked at, or a loss is not
    /// a number.
    package func difference(from other: Fingerprint) -> Double {
        guard losses.count == other.losses.count, !losses.isEmpty else { return .infinity }
        return zip(losses, other.losses).reduce(0) { largest, pair in
            let difference = abs(pair.0 - pair.1)
            return difference.isFinite ? max(largest, difference) : .infinity
        }
    }
}

extension Trainer {
    /// What the model makes of the first `exampleCount` validation examples.
    package func fingerprint(exampleCount: Int = 8) -> Fingerprint {
        Fingerprint(
            losses: (0..<min(exampleCount, source.count(.validation))).map { evaluate(.validation, $0..<$0 + 1).loss })
    }
}

extension ParallelTrainer {
    /// What the model makes of the first `exampleCount` validation examples. A collective call.
    package func fingerprint(exampleCount: Int = 8) throws -> Fingerprint {
        let count = min(exampleCount, source.count(.validation))
        return Fingerprint(losses: try (0..<count).map { try evaluate(.validation, $0..<$0 + 1).loss })
    }
}
