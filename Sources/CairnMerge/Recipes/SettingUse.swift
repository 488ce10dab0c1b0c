import CairnBase
import CairnCheckpoint

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
                                advice: "filters are parts of the names in the models' files: list them, and correct or remove it"))
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
