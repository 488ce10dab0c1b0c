import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage

/// Reads a recipe's text.
enum RecipeFile {
    static func read(_ path: String) throws(CairnError) -> String {
        let (directory, name) = PathInspection.split(path)
        let bytes = try LocalStorage(root: directory).readAll(name, limit: 4 << 20)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CairnError(.malformed, "the recipe is not UTF-8 text", .init(file: path))
        }
        return text
    }
}

/// A model that a recipe names.
enum RecipeModel {
    /// Opens `PATH`, or `PATH+ADAPTER`: relative to the recipe, else to the current directory.
    ///
    /// - Returns: The model, what must not be written over, and what did not go without saying.
    static func open(
        _ name: String, besides recipe: String, _ result: MergeOutput, taking parts: TrainingParts
    ) throws -> (input: MergeInput, sources: [MergeSource], notes: [String]) {
        if try exists(name, besides: recipe) == nil, let plus = name.lastIndex(of: "+") {
            let model = try path(String(name[..<plus]), besides: recipe)
            // Which tensors are wanted counts for the model with the adapter: the adapter is for all of the model's.
            let base = try MergeSource(
                model, format: result.format, taking: result.selection.include.isEmpty ? parts : .all)
            var (adapter, source) = try AdapterFiles.open(
                path(String(name[name.index(after: plus)...]), besides: recipe))
            adapter.isForTiedModel = try AdapterFiles.isTied(modelAt: model)
            // The model keeps its types, as other models of the recipe do; the result's come from the merge.
            var options = result.mergeOptions
            options.outputType = nil
            let merged = try MergedCheckpoint(base.input, adapters: [adapter], options: options)
            var parent = base.input.parent
            parent.source = name
            let input = MergeInput(try result.selected(merged), parent: parent)
            return (input, [base, source], merged.notes)
        }
        let source = try result.open(path(name, besides: recipe), taking: parts)
        return (source.input, [source], [])
    }

    private static func exists(_ name: String, besides recipe: String) throws(CairnError) -> String? {
        let path = name.lastIndex(of: "@").map { String(name[..<$0]) }
        let directory = PathInspection.split(recipe).directory
        for candidate in [name, path ?? name] {
            if !name.hasPrefix("/"), try PathInspection.kind(of: PathInspection.join(directory, candidate)) != nil {
                return PathInspection.join(directory, name)
            }
            if try PathInspection.kind(of: candidate) != nil { return name }
        }
        return nil
    }

    private static func path(_ name: String, besides recipe: String) throws(CairnError) -> String {
        if let path = try exists(name, besides: recipe) { return path }
        throw CairnError(
            .notFound, "a model of the recipe is not there",
            .init(
                file: recipe, found: name,
                advice: "models are local files and directories; names of a hub are not downloaded"))
    }
}
