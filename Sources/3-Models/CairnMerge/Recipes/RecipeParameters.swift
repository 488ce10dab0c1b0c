import CairnBase
import CairnCheckpoint

/// The parameters of one tensor of a recipe: what they are set to, from the closest setting outwards.
struct RecipeParameters {
    /// From the closest to the furthest.
    let scopes: [(path: String, settings: [String: MergeRecipe.Setting])]
    let use: SettingUse
    let tensor: String
    /// Where the tensor's layer is among the layers, from 0 to 1.
    let position: Double
    /// What messages call the model, if it is a model's parameters.
    var model: String?

    func number(_ name: String) throws(CairnError) -> Double? {
        use.ask(name)
        for (path, settings) in scopes {
            guard let setting = settings[name], let value = try number(setting, name) else { continue }
            use.use(path, name, condition: condition(setting))
            return value
        }
        return nil
    }

    func number(_ name: String, default other: Double) throws(CairnError) -> Double { try number(name) ?? other }

    func requiredNumber(_ name: String) throws(CairnError) -> Double {
        if let value = try number(name) { return value }
        throw CairnError(
            .invalidArgument, "the recipe does not say a tensor's \(name)",
            .init(
                file: model, tensor: tensor,
                advice: "set it for the model, or for all models in the recipe's own parameters"))
    }

    func bool(_ name: String, default other: Bool) throws(CairnError) -> Bool {
        use.ask(name)
        for (path, settings) in scopes {
            guard let setting = settings[name], let scalar = chosen(setting) else { continue }
            use.use(path, name, condition: condition(setting))
            switch scalar {
            case .bool(let value): return value
            case .number(let value) where value == 0 || value == 1: return value == 1
            default: throw problem(name, "true or false")
            }
        }
        return other
    }

    private func number(_ setting: MergeRecipe.Setting, _ name: String) throws(CairnError) -> Double? {
        switch setting {
        case .scalar(let scalar): return try number(scalar, name)
        case .gradient(let scalars):
            guard !scalars.isEmpty else { return nil }
            var values: [Double] = []
            for scalar in scalars { values.append(try number(scalar, name)) }
            let place = position * Double(values.count - 1)
            let first = min(values.count - 1, Int(place)), next = min(values.count - 1, first + 1)
            let part = place - Double(first)
            return (1 - part) * values[first] + part * values[next]
        case .conditions(let conditions):
            guard let condition = conditions.first(where: fits) else { return nil }
            return try number(condition.value, name)
        }
    }

    private func number(_ scalar: MergeRecipe.Scalar, _ name: String) throws(CairnError) -> Double {
        switch scalar {
        case .number(let value): return value
        case .bool(let value): return value ? 1 : 0
        case .text: throw problem(name, "a number")
        }
    }

    /// What is set where values are not interpolated.
    private func chosen(_ setting: MergeRecipe.Setting) -> MergeRecipe.Scalar? {
        switch setting {
        case .scalar(let scalar): scalar
        case .gradient(let scalars):
            scalars.isEmpty ? nil : scalars[min(scalars.count - 1, Int(position * Double(scalars.count - 1)))]
        case .conditions(let conditions): conditions.first(where: fits).flatMap { chosen($0.value) }
        }
    }

    private func fits(_ condition: MergeRecipe.Condition) -> Bool {
        condition.filter.map { Self.fits($0, tensor) } ?? true
    }

    /// Which condition of a setting counts for the tensor, if it has any.
    private func condition(_ setting: MergeRecipe.Setting) -> Int? {
        if case .conditions(let conditions) = setting { conditions.firstIndex(where: fits) } else { nil }
    }

    /// Whether a filter is part of a tensor's name.
    static func fits(_ filter: String, _ tensor: String) -> Bool { tensor.utf8.contains(filter.utf8) }

    private func problem(_ name: String, _ expected: String) -> CairnError {
        CairnError(
            .invalidArgument, "a parameter has a value of the wrong kind",
            .init(file: model, tensor: tensor, expected: "\(name) to be \(expected)"))
    }
}

extension Collection<UInt8> {
    /// Whether these bytes occur in a row.
    fileprivate func contains(_ other: some Collection<UInt8>) -> Bool {
        let (all, wanted) = (Array(self), Array(other))
        guard wanted.count <= all.count else { return false }
        return (0...all.count - wanted.count).contains { all[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}

/// Which layer a tensor belongs to, by its name: the first part between dots that is a number.
struct LayerName: Hashable {
    /// What comes before the number, with its dot.
    let prefix: String
    let layer: Int
    /// What comes behind the number, with its dot.
    let suffix: String

    /// `nil` for a tensor outside the layers.
    init?(_ name: String) {
        var prefix = ""
        var rest = name[...]
        while let dot = rest.firstIndex(of: ".") {
            let part = rest[..<dot]
            if !part.isEmpty, part.allSatisfy({ ("0"..."9").contains($0) }), let layer = Int(part), "\(layer)" == part,
                !prefix.isEmpty
            {
                self.prefix = prefix
                self.layer = layer
                suffix = String(rest[dot...])
                return
            }
            prefix += part + "."
            rest = rest[rest.index(after: dot)...]
        }
        return nil
    }

    /// The name of the same tensor of another layer.
    func name(ofLayer layer: Int) -> String { "\(prefix)\(layer)\(suffix)" }

    /// How many layers each stack of layers of a checkpoint has, by the names' beginning.
    static func counts(in reader: any CheckpointReader) -> [String: Int] {
        var counts: [String: Int] = [:]
        for tensor in reader.tensors {
            guard let name = LayerName(tensor.name) else { continue }
            counts[name.prefix] = max(counts[name.prefix] ?? 0, name.layer.adding(clamped: 1))
        }
        return counts
    }
}

/// The settings of a recipe that something was made by, so that those which change nothing can be named.
final class SettingUse {
    /// A setting in the recipe, such as `slices[1].parameters.weight`, and which of its conditions.
    private struct Setting: Hashable {
        let scope: String, parameter: String
        let condition: Int?
    }

    private var used: Set<Setting> = []
    private var asked: Set<String> = []

    func ask(_ parameter: String) { asked.insert(parameter) }

    func use(_ scope: String, _ parameter: String, condition: Int?) {
        used.insert(Setting(scope: scope, parameter: parameter, condition: condition))
    }

    /// The settings of a recipe that changed nothing, by their paths.
    ///
    /// - Parameter names: Those of all tensors that filters are compared with.
    /// - Throws: ``CairnError/Code/notFound`` for a filter that fits no tensor: what it is for would be merged by other
    ///   values unnoticed.
    func idle(of recipe: MergeRecipe, names: [String]) throws(CairnError) -> [String] {
        var idle: [String] = []
        for (scope, settings) in recipe.scopes {
            for (parameter, setting) in settings.sorted(by: { $0.key < $1.key }) {
                let path = "\(scope).\(parameter)"
                guard asked.contains(parameter), case .conditions(let conditions) = setting else {
                    if !used.contains(Setting(scope: scope, parameter: parameter, condition: nil)) { idle.append(path) }
                    continue
                }
                for (index, condition) in conditions.enumerated() {
                    if let filter = condition.filter, !names.contains(where: { RecipeParameters.fits(filter, $0) }) {
                        throw CairnError(
                            .notFound,
                            recipe.prefix(of: "\(path)[\(index)]", else: path)
                                + "the filter \(filter.debugDescription) fits no tensor",
                            .init(
                                file: recipe.origin.file,
                                advice: "filters are parts of the names in the models' files: list them, and correct or remove it"
                            ))
                    }
                    if !used.contains(Setting(scope: scope, parameter: parameter, condition: index)) {
                        idle.append("\(path)[\(index)]")
                    }
                }
            }
        }
        return idle
    }
}

extension MergeRecipe {
    /// Everything that sets parameters, with its path.
    var scopes: [(path: String, settings: [String: Setting])] {
        var scopes = [("parameters", parameters)]
        switch content {
        case .models(let sources):
            for (index, source) in sources.enumerated() { scopes.append((Self.path(ofModel: index), source.parameters)) }
        case .slices(let slices):
            for (index, slice) in slices.enumerated() {
                scopes.append((Self.path(ofSlice: index), slice.parameters))
                for (position, source) in slice.sources.enumerated() {
                    scopes.append((Self.path(ofSlice: index, source: position), source.parameters))
                }
            }
        }
        return scopes
    }

    static func path(ofModel index: Int) -> String { "models[\(index)].parameters" }
    static func path(ofSlice index: Int) -> String { "slices[\(index)].parameters" }
    static func path(ofSlice index: Int, source: Int) -> String { "slices[\(index)].sources[\(source)].parameters" }

    /// What messages about a setting begin with: its path, with its line, if the recipe was read from a text.
    func prefix(of path: String, else other: String = "") -> String {
        let line = origin.lines[path] ?? origin.lines[other]
        return (line.map { "line \($0): " } ?? "") + "\(path): "
    }
}
