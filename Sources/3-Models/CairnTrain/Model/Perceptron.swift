internal import CTrainKernels
internal import CairnBase
package import CairnTensor

/// Linear layers with an activation between them.
package struct Perceptron: Network {
    let configuration: PerceptronConfiguration
    package let parameters: [ParameterSpecification]
    let layers: [Linear]

    /// `configuration` has been validated.
    package init(_ configuration: PerceptronConfiguration) {
        let widths = [configuration.inputs] + configuration.hidden + [configuration.classes]
        var list: [ParameterSpecification] = []
        var layers: [Linear] = []
        for (index, (inputs, outputs)) in zip(widths, widths.dropFirst()).enumerated() {
            let isEdge = index == 0 || index == widths.count - 2
            list.append(
                ParameterSpecification(
                    "model.layers.\(index).weight", [outputs, inputs], isEdge ? .edge : .hidden(blocks: 1),
                    // He et al. 2015: keeps the variance through halves that are cut off.
                    .normal(deviation: (2 / Float(inputs)).squareRoot())))
            list.append(ParameterSpecification("model.layers.\(index).bias", [outputs], .vector, .zeros))
            layers.append(Linear(weight: 2 * index, bias: 2 * index + 1, inputs: inputs, outputs: outputs))
        }
        self.configuration = configuration
        self.layers = layers
        parameters = list
    }

    package var ties: [(name: String, target: String)] { [] }

    package var value: Value { configuration.value }

    package var targetsPerExample: Int { 1 }

    package func makeWorker(exampleCapacity: Int, pool: BufferPool) -> any NetworkWorker {
        PerceptronWorker(self, rows: exampleCapacity, pool: pool)
    }
}

/// The passes of a perceptron.
///
/// `@unchecked Sendable`: one pass at a time uses it.
final class PerceptronWorker: NetworkWorker, @unchecked Sendable {
    private let network: Perceptron
    /// How many examples there is room for.
    let capacity: Int
    private let arena: Arena
    /// Each layer's output before the activation, [rows, outputs].
    private let sums: [UnsafeMutablePointer<Float>]
    /// Each hidden layer's output, [rows, outputs].
    private let outputs: [UnsafeMutablePointer<Float>]
    private let gradient: UnsafeMutablePointer<Float>
    private let nextGradient: UnsafeMutablePointer<Float>

    init(_ network: Perceptron, rows: Int, pool: BufferPool) {
        MatrixProduct.prepare()
        let arena = Arena(pool: pool)
        let widest = network.layers.map(\.outputs).max() ?? 1
        self.network = network
        self.arena = arena
        capacity = rows
        sums = network.layers.map { arena.floats(rows * $0.outputs) }
        outputs = network.layers.dropLast().map { arena.floats(rows * $0.outputs) }
        gradient = arena.floats(rows * widest)
        nextGradient = arena.floats(rows * widest)
    }

    /// What the layers put out for the examples: the hidden ones behind their activation, the last one its sums.
    func layerOutputs(_ examples: Examples, weights: ParameterPointers) -> [[Float]] {
        forward(examples, weights: weights)
        return zip(network.layers, outputs + sums.suffix(1)).map { layer, output in
            Array(UnsafeBufferPointer(start: output, count: examples.count * layer.outputs))
        }
    }

    private func forward(_ examples: Examples, weights: ParameterPointers) {
        precondition(examples.count <= capacity, "more examples than the worker has room for")
        guard let features = examples.features else { preconditionFailure("a perceptron needs numbers") }
        let rows = examples.count
        var input = features
        for (index, layer) in network.layers.enumerated() {
            layer.forward(weights, input, into: sums[index], stride: layer.outputs, rows: rows)
            guard index < outputs.count else { continue }
            switch network.configuration.activation {
            case .relu: cairn_relu(rows * layer.outputs, sums[index], outputs[index])
            case .gelu: cairn_gelu(rows * layer.outputs, sums[index], outputs[index])
            }
            input = UnsafePointer(outputs[index])
        }
    }

    func run(
        _ examples: Examples, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) -> PassResult {
        forward(examples, weights: weights)
        guard let features = examples.features, let last = sums.last else {
            preconditionFailure("a perceptron needs numbers")
        }
        let rows = examples.count
        let layers = network.layers
        var result = PassResult()
        result.lossSum = cairn_cross_entropy(
            rows, network.configuration.classes, examples.targets, scale, last, &result.correctCount)
        guard let gradients else { return result }
        var dy = last
        var spare = [gradient, nextGradient]
        for (index, layer) in layers.enumerated().reversed() {
            let input = index > 0 ? UnsafePointer(outputs[index - 1]) : features
            let dx = index > 0 ? spare.removeFirst() : nil
            layer.backward(weights, gradients, x: input, dy: dy, stride: layer.outputs, dx: dx, rows: rows)
            guard let dx else { break }
            switch network.configuration.activation {
            case .relu: cairn_relu_backward(rows * layer.inputs, sums[index - 1], dx, dx)
            case .gelu: cairn_gelu_backward(rows * layer.inputs, sums[index - 1], dx, dx)
            }
            if dy != last { spare.append(dy) }
            dy = dx
        }
        return result
    }
}

/// The structure of a multilayer perceptron that classifies.
public struct PerceptronConfiguration: Sendable, Hashable {
    /// What follows each hidden layer.
    public enum Activation: String, Sendable, Hashable, CaseIterable {
        case relu
        /// GELU in its tanh form.
        case gelu
    }

    /// How many numbers an example has.
    package var inputs = DigitsDataset.featureCount
    /// The widths of the hidden layers.
    package var hidden: [Int]
    /// How many classes there are.
    package var classes = DigitsDataset.classCount
    package var activation: Activation

    public init(hidden: [Int], activation: Activation = .relu) {
        self.hidden = hidden
        self.activation = activation
    }

    /// Throws ``CairnError/Code/invalidArgument`` unless such a model exists.
    func validate() throws(CairnError) {
        let sizes = [inputs] + hidden + [classes]
        guard sizes.allSatisfy({ (1...1 << 24).contains($0) }) else {
            throw CairnError(.invalidArgument, "a perceptron's sizes must be positive", .init(found: "\(sizes)"))
        }
    }

    /// The structure as a value to store.
    package var value: Value {
        .dictionary([
            "kind": .string("perceptron"), "inputs": .integer(Int64(inputs)),
            "hidden": .list(hidden.map { .integer(Int64($0)) }), "classes": .integer(Int64(classes)),
            "activation": .string(activation.rawValue),
        ])
    }
}
