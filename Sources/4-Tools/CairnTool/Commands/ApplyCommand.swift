import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnDelta

/// `cairn apply`
struct ApplyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Make a checkpoint of another one and deltas.",
        discussion: """
            DELTAS are files of `cairn delta`, each of which applies to what the one before it made. BASE may have any format \
            and layout, as long as its tensors are those that the first delta was made from. Every tensor of the result is \
            compared with the SHA-256 that the last delta holds. A base that is another one, a delta out of order and damage are \
            refused by the name of the tensor, and nothing is left.

            Examples:
              cairn apply runs/rl@100 101.delta -o 101.safetensors
              cairn apply base.safetensors 101.delta 102.delta 103.delta -o runs/rl --to cairn --step 103
            """)

    @Argument(help: ArgumentHelp("What the first delta applies to.", valueName: "base"))
    var base: String

    @Argument(help: ArgumentHelp("The deltas, in the order of their steps.", valueName: "deltas"))
    var deltas: [String]

    @OptionGroup var result: CheckpointOutput

    func run() throws {
        let opened = try result.open(base)
        var (sources, parents, reader) = ([opened.files], [opened.parent], opened.reader)
        var last: PatchedReader?
        for text in deltas {
            let delta = try CheckpointDelta(path: text)
            let patched = try delta.applied(to: reader)
            (reader, last) = (patched, patched)
            sources.append(try SourceFiles(path: text))
            parents.append(.init(source: text))
        }
        guard let last else { return }
        let step = last.delta.contents.result.step
        if let step { parents[parents.count - 1].step = step }
        try result.write(
            .init(
                reader: last, lineage: Lineage(operation: "delta", parents: parents), step: step, sources: sources,
                skippedEntries: opened.skippedEntries, facts: ["base": .string(base), "deltas": .strings(deltas)],
                through: last.verifying),
            schema: "cairn-apply/1")
    }
}
