import CairnTensor
import CairnTrain
import Testing

/// Compares a network's gradients with central differences, one parameter at a time.
///
/// The difference is taken along the gradient mixed with noise: along the gradient alone a wrong length would show, but
/// not a part that is missing.
func expectGradientsMatchDifferences(
    of network: any Network, on batch: Batch, seed: UInt64, step: Double = 0.02,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    var random = PhiloxGenerator(key: seed)
    let worker = network.makeWorker(exampleCapacity: batch.exampleCount, pool: BufferPool(idleLimit: 0))
    var weights = network.parameters.map { parameter in
        // Away from the usual start, where most gradients are tiny.
        (0..<parameter.shape.elementCount).map { _ in
            Float(random.normal()) * (parameter.role == .vector ? 0.3 : 0.2)
                + (parameter.initialization == .ones ? 1 : 0)
        }
    }
    var gradients = weights.map { [Float](repeating: 0, count: $0.count) }
    let scale = 1 / Float(batch.targets.count)

    func loss(_ gradients: GradientPointers? = nil) -> Double {
        let pointers = weights.map { array in
            let copy = UnsafeMutablePointer<Float>.allocate(capacity: array.count)
            copy.initialize(from: array, count: array.count)
            return copy
        }
        defer { for pointer in pointers { pointer.deallocate() } }
        return batch.withExamples { examples in
            let result = worker.run(
                examples, weights: ParameterPointers(pointers.map { UnsafePointer($0) }), gradients: gradients,
                scale: scale)
            return (result.lossSum + network.balanceWeight * result.balanceSum) / Double(batch.targets.count)
        }
    }
    let buffers = gradients.map { array in
        let buffer = UnsafeMutablePointer<Float>.allocate(capacity: array.count)
        buffer.initialize(repeating: 0, count: array.count)
        return buffer
    }
    _ = loss(GradientPointers(buffers))
    for (index, buffer) in buffers.enumerated() {
        gradients[index] = Array(UnsafeBufferPointer(start: buffer, count: gradients[index].count))
        buffer.deallocate()
    }

    for (index, parameter) in network.parameters.enumerated() {
        let gradient = gradients[index].map { Double($0) }
        let norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // Softmax ignores what is added to all scores of a row; without rotation a key's bias is just that.
        if norm < 1e-7, parameter.name.hasSuffix("attention.key.bias") { continue }
        let spread = norm / Double(gradient.count).squareRoot()
        var direction = gradient.map { $0 + spread * random.normal() }
        let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
        direction = direction.map { $0 / length }
        let expected = zip(gradient, direction).reduce(0) { $0 + $1.0 * $1.1 }
        let original = weights[index]
        // The fourth-order formula allows a step that is large against the rounding of single precision.
        func shifted(_ factor: Double) -> Double {
            weights[index] = zip(original, direction).map { Float(Double($0) + factor * step * $1) }
            return loss()
        }
        let difference = (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * step)
        weights[index] = original
        #expect(norm > 1e-5, "\(parameter.name) has no gradient, seed \(seed)", sourceLocation: sourceLocation)
        #expect(
            abs(difference - expected) < 1e-2 * abs(expected) + 2e-6,
            "\(parameter.name): gradient \(expected), difference \(difference), seed \(seed)",
            sourceLocation: sourceLocation)
    }
}
