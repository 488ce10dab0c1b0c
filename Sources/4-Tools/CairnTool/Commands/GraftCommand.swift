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

            With --parts BASE is a run whose parts were saved for themselves (CheckpointStore.part): the newest checkpoint of each \
            part that was saved after the newest whole one is taken.

            Examples:
              cairn graft runs/moe@400 --take 'runs/moe@360:*experts.7.*' -o runs/mixed --to cairn
              cairn graft runs/moe --parts -o runs/whole --to cairn
              cairn graft base.safetensors --take 'tuned.safetensors:lm_head.*' --take 'old.pt:model.embed*' -o new.safetensors
            """)

    @Argument(help: "The checkpoint that gives what is not taken from another.")
    var base: String

    @Option(help: ArgumentHelp("What to take from where, repeatable; * stands for any characters.", valueName: "path:glob"))
    var take: [TakeArgument] = []

    @Flag(help: "Take the newest checkpoint of each part of the run.")
    var parts = false

    @OptionGroup var result: CheckpointOutput

    func validate() throws {
        if take.isEmpty != parts { throw ValidationError("say what to take: either --take 'PATH:GLOB' or --parts") }
    }

    func run() throws {
        guard !parts else { return try assemble() }
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

    /// A run's newest whole checkpoint with its parts that were saved since.
    private func assemble() throws {
        let (store, path) = try StoreOpening.open(base)
        let readers = try store.newestParts()
        guard let first = readers.first else {
            throw CairnError(.notFound, "the run has no finished checkpoint, and no part has one", .init(file: path))
        }
        let names = readers.map { "\($0.source)" }
        let sources = try names.map { try result.open($0) }
        let inputs = sources.map { MergeInput($0.reader, parent: $0.parent) }
        let grafted = try GraftedReader(inputs[0], taking: inputs.dropFirst().map { .init(allOf: $0) })
        try result.write(
            .init(
                reader: grafted, lineage: grafted.lineage, step: first.manifest.step, sources: sources.map(\.files),
                skippedEntries: sources.flatMap(\.skippedEntries),
                facts: ["base": .string(names[0]), "parts": GraftedParts(grafted.lineage).document]),
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
