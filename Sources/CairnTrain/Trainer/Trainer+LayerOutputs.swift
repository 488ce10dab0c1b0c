internal import CairnBase
public import CairnTensor

extension Trainer {
    /// What each layer of a classifier puts out for the first `limit` examples of a split, all by default, as matrices
    /// `[examples, units]`: the hidden layers behind their activation, the last one the scores of the classes.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for a model that is not a chain of layers.
    public func layerOutputs(_ split: Split = .training, limit: Int = .max) throws -> [Tensor] {
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
