package import CairnTensor

/// What a parameter is in the network: optimizers treat the kinds differently.
package enum ParameterRole: Sendable, Hashable {
    /// A matrix [outputs, inputs] between hidden layers; `blocks` matrices on top of each other when fused.
    case hidden(blocks: Int)
    /// A table or a matrix next to the input or the output.
    case edge
    /// Biases and norm weights.
    case vector
}

/// How a parameter starts.
package enum Initialization: Sendable, Hashable {
    case zeros
    case ones
    case normal(deviation: Float)
}

/// Name, shape, place and start of one parameter.
package struct ParameterSpecification: Sendable, Hashable {
    package let name: String
    package let shape: Shape
    package let role: ParameterRole
    package let initialization: Initialization

    package init(_ name: String, _ shape: Shape, _ role: ParameterRole, _ initialization: Initialization) {
        self.name = name
        self.shape = shape
        self.role = role
        self.initialization = initialization
    }
}
