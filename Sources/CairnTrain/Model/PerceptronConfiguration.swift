internal import CairnBase
public import CairnTensor

/// The structure of a multilayer perceptron that classifies.
public struct PerceptronConfiguration: Sendable, Hashable {
    /// What follows each hidden layer.
    public enum Activation: String, Sendable, Hashable, CaseIterable {
        case relu
        /// GELU in its tanh form.
        case gelu
    }

    /// How many numbers an example has.
    public var inputs = DigitsDataset.featureCount
    /// The widths of the hidden layers.
    public var hidden: [Int]
    /// How many classes there are.
    public var classes = DigitsDataset.classCount
    public var activation: Activation

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
    public var value: Value {
        .dictionary([
            "kind": .string("perceptron"), "inputs": .integer(Int64(inputs)),
            "hidden": .list(hidden.map { .integer(Int64($0)) }), "classes": .integer(Int64(classes)),
            "activation": .string(activation.rawValue),
        ])
    }
}
