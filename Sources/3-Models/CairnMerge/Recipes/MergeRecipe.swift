import CairnBase
import CairnCheckpoint
package import CairnTensor

/// A merge as mergekit's YAML describes it: a method, models, and parameters that may differ from tensor to tensor.
///
/// `Docs/Merging.md` says what of mergekit's language is understood.
public struct MergeRecipe: Sendable, Hashable {
    /// A value of a parameter.
    package enum Scalar: Sendable, Hashable {
        case number(Double)
        case bool(Bool)
        case text(String)
    }

    /// What a parameter is set to.
    package enum Setting: Sendable, Hashable {
        case scalar(Scalar)
        /// Values along the layers: numbers are interpolated between.
        case gradient([Scalar])
        /// The first whose filter is part of the tensor's name; `nil` fits every name.
        case conditions([Condition])
    }

    /// A setting for tensors of some names.
    package struct Condition: Sendable, Hashable {
        package var filter: String?
        package var value: Setting

        package init(filter: String?, value: Setting) {
            self.filter = filter
            self.value = value
        }
    }

    /// A model, or some of its layers.
    package struct Source: Sendable, Hashable {
        package var model: String
        /// The layers; `nil` for all.
        package var layers: Range<Int>?
        package var parameters: [String: Setting]

        package init(model: String, layers: Range<Int>? = nil, parameters: [String: Setting] = [:]) {
            self.model = model
            self.layers = layers
            self.parameters = parameters
        }
    }

    /// Layers of the result, merged from layers of models.
    package struct Slice: Sendable, Hashable {
        package var sources: [Source]
        package var baseModel: String?
        package var parameters: [String: Setting]

        package init(sources: [Source], baseModel: String? = nil, parameters: [String: Setting] = [:]) {
            self.sources = sources
            self.baseModel = baseModel
            self.parameters = parameters
        }
    }

    /// What is merged: whole models, or slices of layers that follow each other.
    package enum Content: Sendable, Hashable {
        case models([Source])
        case slices([Slice])
    }

    /// mergekit's name of the method.
    package var method: String
    package var content: Content
    package var baseModel: String?
    /// What inputs are rounded to before they are merged.
    package var inputType: ScalarType?
    /// The result's type; `nil` for ``inputType``, or the inputs' own.
    package var outputType: ScalarType?
    package var parameters: [String: Setting]
    /// Where its settings stand, for messages.
    package var origin = Origin()

    /// The text that a recipe was read from, and the lines of its settings. It makes no recipe another.
    package struct Origin: Sendable, Hashable {
        package var file: String?
        package var lines: [String: Int] = [:]

        package static func == (one: Origin, other: Origin) -> Bool { true }
        package func hash(into hasher: inout Hasher) {}
    }

    package init(
        method: String, content: Content, baseModel: String? = nil, inputType: ScalarType? = nil,
        outputType: ScalarType? = nil, parameters: [String: Setting] = [:]
    ) {
        self.method = method
        self.content = content
        self.baseModel = baseModel
        self.inputType = inputType
        self.outputType = outputType
        self.parameters = parameters
    }

    /// The names of all models, each once, in the order in which they occur; the base comes last if it occurs nowhere else.
    public var models: [String] {
        var names: [String] = []
        func add(_ name: String?) { if let name, !names.contains(name) { names.append(name) } }
        switch content {
        case .models(let sources): for source in sources { add(source.model) }
        case .slices(let slices):
            for slice in slices {
                for source in slice.sources { add(source.model) }
                add(slice.baseModel)
            }
        }
        add(baseModel)
        return names
    }
}

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
