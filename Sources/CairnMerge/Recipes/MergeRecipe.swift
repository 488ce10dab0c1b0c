public import CairnTensor

/// A merge as mergekit's YAML describes it: a method, models, and parameters that may differ from tensor to tensor.
///
/// `Docs/Merging.md` says what of mergekit's language is understood.
public struct MergeRecipe: Sendable, Hashable {
    /// A value of a parameter.
    public enum Scalar: Sendable, Hashable {
        case number(Double)
        case bool(Bool)
        case text(String)
    }

    /// What a parameter is set to.
    public enum Setting: Sendable, Hashable {
        case scalar(Scalar)
        /// Values along the layers: numbers are interpolated between.
        case gradient([Scalar])
        /// The first whose filter is part of the tensor's name; `nil` fits every name.
        case conditions([Condition])
    }

    /// A setting for tensors of some names.
    public struct Condition: Sendable, Hashable {
        public var filter: String?
        public var value: Setting

        public init(filter: String?, value: Setting) {
            self.filter = filter
            self.value = value
        }
    }

    /// A model, or some of its layers.
    public struct Source: Sendable, Hashable {
        public var model: String
        /// The layers; `nil` for all.
        public var layers: Range<Int>?
        public var parameters: [String: Setting]

        public init(model: String, layers: Range<Int>? = nil, parameters: [String: Setting] = [:]) {
            self.model = model
            self.layers = layers
            self.parameters = parameters
        }
    }

    /// Layers of the result, merged from layers of models.
    public struct Slice: Sendable, Hashable {
        public var sources: [Source]
        public var baseModel: String?
        public var parameters: [String: Setting]

        public init(sources: [Source], baseModel: String? = nil, parameters: [String: Setting] = [:]) {
            self.sources = sources
            self.baseModel = baseModel
            self.parameters = parameters
        }
    }

    /// What is merged: whole models, or slices of layers that follow each other.
    public enum Content: Sendable, Hashable {
        case models([Source])
        case slices([Slice])
    }

    /// mergekit's name of the method.
    public var method: String
    public var content: Content
    public var baseModel: String?
    /// What inputs are rounded to before they are merged.
    public var inputType: ScalarType?
    /// The result's type; `nil` for ``inputType``, or the inputs' own.
    public var outputType: ScalarType?
    public var parameters: [String: Setting]
    /// Where its settings stand, for messages.
    package var origin = Origin()

    /// The text that a recipe was read from, and the lines of its settings. It makes no recipe another.
    package struct Origin: Sendable, Hashable {
        package var file: String?
        package var lines: [String: Int] = [:]

        package static func == (one: Origin, other: Origin) -> Bool { true }
        package func hash(into hasher: inout Hasher) {}
    }

    public init(
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
