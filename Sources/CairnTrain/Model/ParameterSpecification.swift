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

    /// The first values of a parameter.
    func values(_ count: Int, _ random: inout PhiloxGenerator) -> [Float] {
        switch self {
        case .zeros: [Float](repeating: 0, count: count)
        case .ones: [Float](repeating: 1, count: count)
        case .normal(let deviation): (0..<count).map { _ in Float(random.normal()) * deviation }
        }
    }

    /// Leaves the generator as ``values(_:_:)`` does.
    func skip(_ count: Int, _ random: inout PhiloxGenerator) {
        if case .normal = self { random.skipNormals(count) }
    }
}

/// How the ranks of tensor parallelism share a parameter.
package struct TensorSharding: Sendable, Hashable {
    /// The dimension that is sharded.
    package var dimension: Int
    /// How many equal sections the dimension has, each sharded on its own: three of a fused QKV.
    package var sections = 1
    /// What is never cut, in elements of the dimension: a head.
    package var unit = 1

    init(dimension: Int, sections: Int = 1, unit: Int = 1) {
        self.dimension = dimension
        self.sections = sections
        self.unit = unit
    }
}

/// Name, shape, place and start of one parameter, or of a rank's part of it.
package struct ParameterSpecification: Sendable, Hashable {
    package let name: String
    package let shape: Shape
    package let role: ParameterRole
    package let initialization: Initialization
    /// `nil` where every rank of tensor parallelism has all of it.
    package let sharding: TensorSharding?
    /// Which expert of its layer it belongs to, if to one.
    package let expert: Int?

    package init(
        _ name: String, _ shape: Shape, _ role: ParameterRole, _ initialization: Initialization,
        _ sharding: TensorSharding? = nil, expert: Int? = nil
    ) {
        self.name = name
        self.shape = shape
        self.role = role
        self.initialization = initialization
        self.sharding = sharding
        self.expert = expert
    }
}
