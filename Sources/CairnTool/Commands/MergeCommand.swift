import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

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
