import CairnBase
import CairnCheckpoint
import CairnTensor

extension MergedCheckpoint {
    /// What a recipe describes.
    ///
    /// - Parameters:
    ///   - options: The recipe's types take precedence.
    ///   - open: Opens a model by the name that the recipe gives it.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which the models differ, ``CairnError/Code/unsupported`` for
    ///   methods and parameters that are not understood, what `open` throws.
    public init(
        recipe: MergeRecipe, options: MergeOptions = MergeOptions(), opening open: (String) throws -> MergeInput
    ) throws {
        try RecipePlan.check(recipe)
        var inputs: [MergeInput] = []
        for model in recipe.models {
            var input = try open(model)
            if let type = recipe.inputType, Self.rounds(input.reader, to: type) {
                input.reader = try CastReader(input.reader, to: type, patterns: Self.narrowed(input.reader, to: type))
            }
            inputs.append(input)
        }
        let plan = try RecipePlan(recipe, inputs)
        var options = options
        options.promotesTypes = true
        if recipe.inputType == .f64 { options.accumulation = .double }
        options.outputType = recipe.outputType ?? recipe.inputType ?? options.outputType
        // Such as a base that no slice names and the method does without.
        let idle = inputs.indices.filter { input in
            !plan.tensors.contains { $0.operands.contains { $0.input == input } }
        }
        let parents = inputs.indices.filter { !idle.contains($0) }.map { index in
            var parent = inputs[index].parent
            parent.coefficient = plan.coefficient(ofInput: index)
            return parent
        }
        var details: [String: Value] = ["method": .string(recipe.method)]
        if recipe.method.hasPrefix("dare") { details["seed"] = .unsigned(options.seed) }
        let unused = idle.map { "nothing is taken of \(inputs[$0].reader.source)" }
        try self.init(
            inputs, recipes: plan.tensors,
            lineage: Lineage(operation: "merge", parents: parents, details: details), options: options,
            notes: plan.notes + unused)
    }

    /// Whether there are tensors that lose something as elements of a type.
    private static func rounds(_ reader: any CheckpointReader, to type: ScalarType) -> Bool {
        reader.tensors.contains { isNarrowed($0.scalarType, to: type) }
    }

    /// Patterns of exactly the names of those tensors; none where all floating-point tensors may be converted.
    private static func narrowed(_ reader: any CheckpointReader, to type: ScalarType) -> [String] {
        guard reader.tensors.contains(where: { $0.scalarType.isFloatingPoint && !$0.scalarType.hasAverage }) else { return [] }
        return reader.tensors.filter { isNarrowed($0.scalarType, to: type) }.map { tensor in
            tensor.name.unicodeScalars.map { "*?[\\".unicodeScalars.contains($0) ? "\\\($0)" : "\($0)" }.joined()
        }
    }

    private static func isNarrowed(_ own: ScalarType, to type: ScalarType) -> Bool {
        own.hasAverage && own != type && own.promoted(with: type) != type
    }
}

extension RecipePlan {
    /// The coefficient of an input, if it has one, and the same in all tensors; the sum where it takes part more than once.
    func coefficient(ofInput input: Int) -> Double? {
        var found: Double?
        for tensor in tensors {
            let coefficients = tensor.method.coefficients
            let positions = tensor.operands.indices.filter { tensor.operands[$0].input == input }
            guard !positions.isEmpty else { continue }
            var sum = 0.0
            for position in positions {
                guard coefficients.indices.contains(position), let value = coefficients[position] else { return nil }
                sum += value
            }
            guard found == nil || found == sum else { return nil }
            found = sum
        }
        return found
    }
}
