import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage

/// `cairn merge`
struct MergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Merge checkpoints by a recipe in mergekit's YAML.",
        discussion: """
            RECIPE names a method (linear, slerp, multislerp, karcher, task_arithmetic, ties, dare_linear, dare_ties, \
            breadcrumbs, breadcrumbs_ties, model_stock, passthrough), models, and parameters, as mergekit's recipes do; \
            Docs/Merging.md says what of them is understood. Models are checkpoints of any format, by paths from the \
            recipe's directory; of MODEL+ADAPTER the second is a PEFT adapter, which is merged in.

            Everything is computed in single precision (double for inputs of F64), whatever the inputs' types, and rounded \
            once. Memory stays small whatever the size and number of the models. What fits nowhere is named before \
            anything is read, nothing is replaced without --force, and an interrupted or failed merge leaves nothing \
            that looks like a checkpoint. DARE chooses elements by --seed and the tensors' names alone. Of models that are \
            training states the model's tensors are taken; --all takes everything.

            Examples:
              cairn merge --recipe ties.yml -o merged.safetensors
              cairn merge --recipe stack.yml -o model/ --to safetensors-sharded --max-shard-size 2GB
              cairn merge --recipe soup.yml -o runs/soup --to cairn --step 0 --dtype BF16
            """)

    @Argument(help: ArgumentHelp("The recipe.", valueName: "recipe"))
    var file: String?

    @Option(help: ArgumentHelp("The recipe.", valueName: "file"))
    var recipe: String?

    @Option(help: "Chooses the random elements of DARE.")
    var seed: UInt64 = 0

    @OptionGroup var training: TrainingOptions

    @OptionGroup var result: MergeOutput

    func validate() throws {
        guard (file == nil) != (recipe == nil) else { throw ValidationError("give one recipe, as an argument or with --recipe") }
    }

    func run() throws {
        let path = recipe ?? file ?? ""
        let text = try RecipeFile.read(path)
        let recipe = try MergeRecipe(yaml: text, file: path)
        var options = result.mergeOptions
        options.seed = seed
        var sources: [MergeSource] = []
        var notes: [String] = []
        let merged = try MergedCheckpoint(recipe: recipe, options: options) { model in
            let opened = try RecipeModel.open(model, besides: path, result, taking: training.parts)
            sources += opened.sources
            notes += opened.notes
            return opened.input
        }
        let idle = seed != 0 && !recipe.method.hasPrefix("dare") ? ["--seed changes nothing: only DARE is random"] : []
        try result.write(
            merged, lineage: merged.lineage, notes: notes + merged.notes + idle, of: sources, schema: "cairn-merge/1")
    }
}

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
                model, format: result.destination.options.format, taking: result.selection.include.isEmpty ? parts : .all)
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

/// An adapter as PEFT saves it, a directory with its configuration and its matrices; or as trainers of image models do, a
/// file whose modules have their scales beside them.
enum AdapterFiles {
    private static let configurationName = "adapter_config.json"
    private static let matrixNames = ["adapter_model.safetensors", "adapter_model.bin"]

    static func open(_ path: String) throws -> (adapter: LowRankAdapter, source: MergeSource) {
        guard try PathInspection.kind(of: path) == .directory else { return try openFile(path) }
        let configurationPath = PathInspection.join(path, configurationName)
        guard try PathInspection.kind(of: configurationPath) == .file else {
            throw CairnError(
                .unsupported, "this is not an adapter",
                .init(
                    file: path, expected: "a directory with \(configurationName)",
                    advice: "the scale of its matrices is in that file, which PEFT writes beside them"))
        }
        let bytes = try LocalStorage(root: path).readAll(configurationName, limit: 4 << 20)
        let configuration = try LowRankAdapter.Configuration(
            json: String(decoding: bytes, as: UTF8.self), file: configurationPath)
        for name in matrixNames {
            let file = PathInspection.join(path, name)
            guard try PathInspection.kind(of: file) == .file else { continue }
            let source = try MergeSource(file)
            return (LowRankAdapter(source.input, configuration: configuration), source)
        }
        throw CairnError(
            .notFound, "the adapter has no matrices",
            .init(file: path, expected: matrixNames.joined(separator: " or ")))
    }

    /// A file alone: with names that say how it is merged.
    private static func openFile(_ path: String) throws -> (adapter: LowRankAdapter, source: MergeSource) {
        let source = try MergeSource(path)
        guard source.input.reader.tensors.contains(where: { $0.name.hasSuffix(".lora_down.weight") }) else {
            throw CairnError(
                .unsupported, "this is not an adapter",
                .init(
                    file: path, expected: "a directory with \(configurationName), or a file of lora_down, lora_up and alpha",
                    advice: "name the directory that PEFT saved"))
        }
        return (LowRankAdapter(source.input, configuration: .init(alpha: nil)), source)
    }

    /// Whether the configuration of a model in a directory ties its output layer to its embedding.
    static func isTied(modelAt path: String) throws -> Bool {
        guard try PathInspection.kind(of: path) == .directory,
            try PathInspection.kind(of: PathInspection.join(path, "config.json")) == .file
        else { return false }
        let bytes = try LocalStorage(root: path).readAll("config.json", limit: 4 << 20)
        guard case .object(let members)? = try? JSONValue(parsing: bytes) else { return false }
        return members["tie_word_embeddings"] == .bool(true)
    }
}
