import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// `cairn graft`
struct GraftCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "graft", abstract: "Make a checkpoint of parts of several.",
        discussion: """
            What --take names is taken from the other checkpoint; all else, the values too, is BASE's. A tensor that both have must \
            have the same type and shape. One that BASE lacks is added. Nothing is computed: every element is that of one of the \
            checkpoints. `cairn inspect` shows from which step each part is.

            Examples:
              cairn graft runs/moe@400 --take 'runs/moe@360:*experts.7.*' -o runs/mixed --to cairn
              cairn graft base.safetensors --take 'tuned.safetensors:lm_head.*' --take 'old.pt:model.embed*' -o new.safetensors
            """)

    @Argument(help: "The checkpoint that gives what is not taken from another.")
    var base: String

    @Option(help: ArgumentHelp("What to take from where, repeatable; * stands for any characters.", valueName: "path:glob"))
    var take: [TakeArgument]

    @OptionGroup var result: CheckpointOutput

    func validate() throws {
        if take.isEmpty { throw ValidationError("say what to take: --take 'PATH:GLOB'") }
    }

    func run() throws {
        // Several patterns of one checkpoint open it once.
        let paths = take.map(\.path).uniqued()
        let sources = try ([base] + paths).map { try result.open($0) }
        let inputs = sources.map { MergeInput($0.reader, parent: $0.parent) }
        let parts = zip(inputs.dropFirst(), paths).map { input, path in
            GraftedReader.Part(input, take.filter { $0.path == path }.map(\.pattern))
        }
        let grafted = try GraftedReader(inputs[0], taking: parts)
        try result.write(
            .init(
                reader: grafted, lineage: grafted.lineage, step: sources[0].parent.step, sources: sources.map(\.files),
                skippedEntries: sources.flatMap(\.skippedEntries),
                facts: ["base": .string(base), "parts": GraftedParts(grafted.lineage).document]),
            schema: "cairn-graft/1")
    }
}

/// `runs/moe@360:experts.7.*`
struct TakeArgument: ExpressibleByArgument {
    let path: String
    let pattern: String

    init?(argument: String) {
        // No name of a tensor that a pattern is for has a colon; a path may.
        guard let colon = argument.lastIndex(of: ":"), colon > argument.startIndex else { return nil }
        path = String(argument[..<colon])
        pattern = String(argument[argument.index(after: colon)...])
        if pattern.isEmpty { return nil }
    }
}

extension Array where Element == String {
    /// Each once, where it first stands.
    fileprivate func uniqued() -> [String] {
        var seen = Set<ExactString>()
        return filter { seen.insert(ExactString($0)).inserted }
    }
}
