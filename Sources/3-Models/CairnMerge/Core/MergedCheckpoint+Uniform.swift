public import CairnBase
import CairnCheckpoint
import CairnTensor

extension MergedCheckpoint {
    /// A merge of checkpoints that have the same tensors, all by one method or each by that of its name.
    ///
    /// Tensors that are tied in all inputs alike, and have one method, are tied in the result.
    ///
    /// - Parameters:
    ///   - operation: What the lineage calls it.
    ///   - method: The method of a tensor.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which the inputs differ.
    public init(
        _ inputs: [MergeInput], operation: String, options: MergeOptions = MergeOptions(),
        method: (String) -> MergeMethod
    ) throws(CairnError) {
        guard let first = inputs.first?.reader else {
            throw CairnError(.invalidArgument, "a merge needs at least one checkpoint")
        }
        try SchemaComparison(of: inputs, promotesTypes: options.promotesTypes).check()
        let ties = CommonTies(inputs)
        var methods = Set<MergeMethod>()
        var recipes: [TensorRecipe] = []
        for tensor in first.tensors {
            let own = method(tensor.name)
            methods.insert(own)
            let target = ties.target(of: tensor.name)
            recipes.append(
                TensorRecipe(
                    name: tensor.name, operands: inputs.indices.map { .init(input: $0, name: tensor.name) },
                    method: own, tiedTo: target.flatMap { method($0) == own ? $0 : nil }))
        }
        // One coefficient describes an input only where all tensors have the same.
        let coefficients = methods.count == 1 ? methods.first?.coefficients ?? [] : []
        let parents = inputs.enumerated().map { index, input in
            var parent = input.parent
            parent.coefficient = coefficients.indices.contains(index) ? coefficients[index] : nil
            return parent
        }
        try self.init(
            inputs, recipes: recipes, lineage: Lineage(operation: operation, parents: parents), options: options)
    }

    /// The weighted mean of checkpoints.
    ///
    /// - Parameters:
    ///   - weights: One for each input, divided by their sum; `nil` for all the same.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which the inputs differ.
    public init(
        averaging inputs: [MergeInput], weights: [Double]? = nil, operation: String = "average",
        options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        let weights = weights ?? inputs.map { _ in 1 }
        try self.init(inputs, operation: operation, options: options) { _ in .linear(weights: weights) }
    }

    /// A point of the line through two checkpoints: `first` at 0, `second` at 1, beyond them below and above.
    ///
    /// - Parameter position: The place on the line of each tensor, by its name.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which the two differ.
    public init(
        interpolating first: MergeInput, _ second: MergeInput, options: MergeOptions = MergeOptions(),
        at position: (String) -> Double
    ) throws(CairnError) {
        try self.init([first, second], operation: "interpolation", options: options) { name in
            let position = position(name)
            return .linear(weights: [1 - position, position], normalizes: false)
        }
    }
}

/// The tensors that are one with another in all inputs alike.
struct CommonTies {
    private let targets: [ExactString: String]

    init(_ inputs: [MergeInput]) {
        var targets: [ExactString: String] = [:]
        for tensor in inputs.first?.reader.tensors ?? [] {
            guard let target = tensor.tiedTo else { continue }
            let isCommon = inputs.allSatisfy { input in
                let tensors = input.reader.tensors
                return tensors.position(of: tensor.name).map { tensors[$0].tiedTo == target } ?? false
            }
            if isCommon { targets[ExactString(tensor.name)] = target }
        }
        self.targets = targets
    }

    func target(of name: String) -> String? { targets[ExactString(name)] }
}
