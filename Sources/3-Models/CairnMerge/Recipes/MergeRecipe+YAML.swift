#if YAML
public import CairnBase
import CairnTensor
import CairnYAML

extension MergeRecipe {
    /// Reads a recipe in mergekit's YAML.
    ///
    /// - Parameter file: What errors call it.
    /// - Throws: ``CairnError/Code/malformed`` with the line for what is not a recipe, ``CairnError/Code/unsupported`` for what
    ///   of mergekit's language is not understood, which is never ignored.
    public init(yaml: String, file: String? = nil) throws(CairnError) {
        let root = try YAMLField.parse(yaml, file: file, what: "the recipe's contents")
        do throws(CairnError) {
            let keys = try root.mapping()
            try self.init(reading: keys, definitions: Self.definitions(in: keys, yaml))
            var lines: [String: Int] = [:]
            for key in ["parameters", "models", "slices"] { try keys[key]?.addLines(to: &lines) }
            origin = Origin(file: file, lines: lines)
        } catch {
            throw error.adding(.init(file: file))
        }
    }

    /// Keys that are there for their anchors: `defaults: &defaults {…}`. Their values count where they are repeated.
    private static func definitions(in root: YAMLMapping, _ yaml: String) -> Set<String> {
        let lines = yaml.split(omittingEmptySubsequences: false) { $0.isNewline }
        return Set(
            root.entries.map(\.key).filter { key in
                lines.contains { line in
                    guard line.hasPrefix(key + ":") else { return false }
                    return line.dropFirst(key.count + 1).first { $0 != " " } == "&"
                }
            })
    }

    private init(reading root: YAMLMapping, definitions: Set<String>) throws(CairnError) {
        // First, since the parameters of another method mean nothing here.
        let name = try root.required("merge_method")
        method = try name.text()
        guard RecipeMethod.known.contains(method) else {
            throw name.unsupported(
                "the merge method is not known", expected: "one of " + RecipeMethod.known.joined(separator: ", "),
                found: method)
        }
        for key in ["modules", "tokenizer", "tokenizer_source"] {
            guard let field = root[key], !field.isNull else { continue }
            throw field.unsupported(
                key == "modules" ? "modules are not merged separately" : "tokenizers are not merged",
                advice: key == "modules"
                    ? "merge each module's checkpoint by a recipe of its own"
                    : "remove the key if all models have one tokenizer")
        }
        let known = [
            "merge_method", "models", "slices", "base_model", "dtype", "out_dtype", "parameters", "chat_template", "name",
            "tokenizer", "tokenizer_source", "modules",
        ]
        for entry in root.entries where !known.contains(entry.key) && !definitions.contains(entry.key) {
            throw entry.value.error("nothing in a recipe is called that", expected: known.joined(separator: ", "))
        }
        baseModel = try root["base_model"].flatMapPresent { field throws(CairnError) in try field.model() }
        inputType = try root["dtype"].flatMapPresent { field throws(CairnError) in try field.scalarType() }
        outputType = try root["out_dtype"].flatMapPresent { field throws(CairnError) in try field.scalarType() }
        parameters = try root["parameters"]?.settings() ?? [:]
        switch (root["models"]?.present, root["slices"]?.present) {
        case (let models?, nil):
            var sources: [Source] = []
            for field in try models.list() { sources.append(try field.source(hasLayers: false)) }
            content = .models(sources)
        case (nil, let slices?):
            var list: [Slice] = []
            for field in try slices.list() { list.append(try field.slice()) }
            content = .slices(list)
        default:
            throw root.field.error("expected either \"models\" or \"slices\"")
        }
    }
}

extension YAMLField? {
    /// What is made of the field, if it is there and not null.
    fileprivate func flatMapPresent<Value>(
        _ body: (YAMLField) throws(CairnError) -> Value
    ) throws(CairnError) -> Value? {
        guard let self, !self.isNull else { return nil }
        return try body(self)
    }
}

extension YAMLField {
    /// The field, unless it is written as nothing.
    fileprivate var present: YAMLField? { isNull ? nil : self }

    /// Notes the lines of everything inside mappings and lists by its path.
    fileprivate func addLines(to lines: inout [String: Int]) throws(CairnError) {
        if !path.isEmpty { lines[path] = line }
        if isSequence { for field in try list() { try field.addLines(to: &lines) } }
        if !isSequence, !isScalar { for entry in try mapping().entries { try entry.value.addLines(to: &lines) } }
    }

    fileprivate func unsupported(
        _ message: String, expected: String? = nil, found: String? = nil, advice: String? = nil
    ) -> CairnError {
        let made = error(message)
        return CairnError(
            .unsupported, made.message, .init(file: file, expected: expected, found: found, advice: advice))
    }

    /// The path of a model: text, or an object with it.
    fileprivate func model() throws(CairnError) -> String {
        if isScalar { return try text() }
        let mapping = try mapping()
        try mapping.allow("model", "path", "lora")
        if let lora = mapping["lora"], !lora.isNull {
            let path = try lora.isScalar ? lora.text() : lora.mapping().required("path").text()
            return try mapping.required("model").model() + "+" + path
        }
        if let path = mapping["path"] { return try path.text() }
        return try mapping.required("model").model()
    }

    fileprivate func scalarType() throws(CairnError) -> ScalarType {
        let name = try text()
        switch name {
        case "float32": return .f32
        case "float16": return .f16
        case "bfloat16": return .bf16
        case "float64": return .f64
        default:
            throw error("the type is not known", expected: "float32, bfloat16, float16 or float64", found: name)
        }
    }

    fileprivate func source(hasLayers: Bool) throws(CairnError) -> MergeRecipe.Source {
        let mapping = try mapping()
        if hasLayers { try mapping.allow("model", "layer_range", "parameters") } else { try mapping.allow("model", "parameters") }
        var layers: Range<Int>?
        if hasLayers {
            let field = try mapping.required("layer_range"), bounds = try field.list()
            guard bounds.count == 2 else { throw field.error("expected the first layer and the one behind the last") }
            let (first, end) = (try bounds[0].number(), try bounds[1].number())
            guard first >= 0, end > first else { throw field.error("expected layers", found: "[\(first), \(end)]") }
            layers = first..<end
        }
        return MergeRecipe.Source(
            model: try mapping.required("model").model(), layers: layers,
            parameters: try mapping["parameters"]?.settings() ?? [:])
    }

    fileprivate func slice() throws(CairnError) -> MergeRecipe.Slice {
        let mapping = try mapping()
        if let weight = mapping["residual_weight"], !weight.isNull { throw weight.unsupported("residual weights are not read") }
        try mapping.allow("sources", "base_model", "parameters", "residual_weight")
        var sources: [MergeRecipe.Source] = []
        for field in try mapping.required("sources").list() { sources.append(try field.source(hasLayers: true)) }
        return MergeRecipe.Slice(
            sources: sources,
            baseModel: try mapping["base_model"].flatMapPresent { field throws(CairnError) in try field.model() },
            parameters: try mapping["parameters"]?.settings() ?? [:])
    }

    fileprivate func settings() throws(CairnError) -> [String: MergeRecipe.Setting] {
        if isNull { return [:] }
        var settings: [String: MergeRecipe.Setting] = [:]
        for (name, field) in try mapping().entries {
            guard let domain = ParameterDomain.all[name] else {
                throw field.error(
                    "no parameter is called that",
                    expected: ParameterDomain.all.keys.sorted().joined(separator: ", "))
            }
            // As mergekit has it, a parameter without a value is not set.
            if let field = field.present { settings[name] = try field.setting(domain) }
        }
        return settings
    }

    private func setting(_ domain: ParameterDomain) throws(CairnError) -> MergeRecipe.Setting {
        if isScalar { return .scalar(try scalar(domain)) }
        guard isSequence else { return .conditions([try condition(domain)]) }
        let fields = try list()
        if fields.allSatisfy(\.isScalar) {
            var values: [MergeRecipe.Scalar] = []
            for field in fields { values.append(try field.scalar(domain)) }
            return .gradient(values)
        }
        var conditions: [MergeRecipe.Condition] = []
        for field in fields { conditions.append(try field.condition(domain)) }
        return .conditions(conditions)
    }

    private func condition(_ domain: ParameterDomain) throws(CairnError) -> MergeRecipe.Condition {
        let mapping = try mapping()
        try mapping.allow("filter", "value")
        let value = try mapping.required("value")
        guard value.isScalar || value.isSequence else { throw value.error("expected a value or a list of values") }
        let filter = try mapping["filter"].flatMapPresent { field throws(CairnError) in try field.text() }
        return MergeRecipe.Condition(filter: filter == "*" ? nil : filter, value: try value.setting(domain))
    }

    /// A value of a parameter, with YAML's words for true and false in every spelling that mergekit reads.
    private func scalar(_ domain: ParameterDomain) throws(CairnError) -> MergeRecipe.Scalar {
        let text = try text()
        let digits = text.drop { "+-".contains($0) }
        if isPlain, digits.count > 1, digits.first == "0", digits.allSatisfy({ ("0"..."9").contains($0) }) {
            throw error(
                "a number with leading zeros is octal for some readers of YAML and decimal for others",
                expected: "\(domain.words), without them", found: text)
        }
        let value: MergeRecipe.Scalar
        switch text {
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": value = .bool(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": value = .bool(false)
        default: value = Double(text).map { .number($0) } ?? .text(text)
        }
        guard domain.contains(value) else {
            throw error("the value cannot be", expected: domain.words, found: text.isEmpty ? "nothing" : text)
        }
        return value
    }
}
#endif
