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
        let (input, files) = try open(base)
        var sources = [files]
        var parts: [GraftedReader.Part] = []
        // Several patterns of one checkpoint open it once.
        for path in take.map(\.path).uniqued() {
            let (input, files) = try open(path)
            parts.append(.init(input, take.filter { $0.path == path }.map(\.pattern)))
            sources.append(files)
        }
        let grafted = try GraftedReader(input, taking: parts)
        try result.write(
            .init(
                reader: grafted, lineage: grafted.lineage, step: input.parent.step, sources: sources,
                facts: ["base": .string(base), "parts": GraftedParts(grafted.lineage).document]),
            schema: "cairn-graft/1")
    }

    private func open(_ path: String) throws -> (MergeInput, SourceFiles) {
        let opened = try OpenedCheckpoint(path, format: result.options.format, part: result.options.part)
        let location = try Location(path).path
        let parent = Lineage.Parent(step: opened.manifest?.step, saveID: opened.manifest?.saveID, source: location)
        return (MergeInput(opened.reader, parent: parent), try opened.sourceFiles(openedAt: location))
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
