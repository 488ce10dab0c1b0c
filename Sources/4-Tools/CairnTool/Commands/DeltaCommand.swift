import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnDelta
import CairnStorage

/// `cairn delta`
struct DeltaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delta", abstract: "Write the elements that differ between two checkpoints of any formats.",
        discussion: """
            The delta is one file. `cairn apply A DELTA` makes B of A, in any format, and compares it with SHA-256 sums that the \
            delta holds. Elements are compared bit by bit. Tensors that A does not have, or has with another type or shape, are \
            in the delta whole, and so are values that differ. How B nested its tensors is not kept.

            Deltas of steps that follow each other are applied in one command, in their order.

            Examples:
              cairn delta runs/rl@100 runs/rl@101 -o 101.delta
              cairn delta base.safetensors tuned/ -o tuned.delta --include 'model.*'
            """)

    @Argument(help: ArgumentHelp("What the delta will apply to.", valueName: "a"))
    var first: String

    @Argument(help: ArgumentHelp("What comes out.", valueName: "b"))
    var second: String

    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("The file to write.", valueName: "delta"))
    var output: String

    @Flag(help: "Replace a file that is there already.")
    var force = false

    @OptionGroup var selection: SelectionOptions
    @OptionGroup var losses: LossOptions
    @OptionGroup var options: ReadingOptions

    func run() throws {
        let sides = try [first, second].map { text in
            let opened = try OpenedCheckpoint(text, format: options.format, part: options.part)
            try opened.checkNotEmpty()
            return opened
        }
        for (text, opened) in zip([first, second], sides) {
            let target = PathInspection.canonical(output)
            if try opened.sourceFiles(openedAt: Location(text).path).includes(target) {
                throw CairnError(.invalidArgument, "the delta would be written over a source", .init(file: output))
            }
        }
        switch try PathInspection.kind(of: output) {
        case .directory?:
            throw CairnError(.invalidArgument, "a delta is one file", .init(file: output, found: "a directory"))
        case .file? where !force:
            throw CairnError(
                .alreadyExists, "there is a file of this name",
                .init(file: output, advice: "choose another name, or say --force"))
        default: break
        }
        let skipped = zip([first, second], sides).flatMap { text, opened in opened.skippedEntries.map { "\(text): \($0)" } }
        try losses.check(skipped)
        let readers = try sides.map { try selected($0.reader) }
        try losses.check(LossOptions.flattened(readers[1]))
        for note in skipped { StandardError.note(note) }
        Interruption.watch()
        let bar = ProgressBar("comparing", total: ShownCopy.byteCount(of: readers[1]))
        let (storage, key) = try LocalStorage.locate(output)
        let written = try CheckpointDelta.write(
            from: readers[0], to: readers[1], storage: storage, file: key,
            origins: (origin(first, sides[0]), origin(second, sides[1]))
        ) { count in
            try Interruption.check()
            bar.add(count)
        }
        bar.finish()
        for note in written.notes { StandardError.note(note) }
        try report(written.summary, notes: skipped + written.notes, byteCount: storage.open(key).byteCount)
    }

    private func selected(_ reader: any CheckpointReader) throws -> any CheckpointReader {
        if selection.include.isEmpty && selection.exclude.isEmpty { return reader }
        return SelectedReader(reader, where: try selection.test())
    }

    private func origin(_ text: String, _ opened: OpenedCheckpoint) -> DeltaContents.Origin {
        .init(source: text, step: opened.manifest?.step, saveID: opened.manifest.map { "\($0.saveID)" })
    }

    private func report(_ summary: CheckpointDelta.Summary, notes: [String], byteCount: Int) throws {
        guard options.json else {
            let counts = [
                "\(summary.changedTensorCount) changed", "\(summary.newTensorCount) new", "\(summary.removedTensorCount) removed",
                "\(summary.equalTensorCount) equal",
            ]
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(output): \(ByteCountText.describe(byteCount)) for "
                        + "\(ByteCountText.describe(summary.resultByteCount)); tensors: \(counts.joined(separator: ", "))"))
            return
        }
        try ResultDocument.print(
            schema: "cairn-delta/1",
            [
                "base": .string(first), "result": .string(second), "delta": .string(output), "bytes": .count(byteCount),
                "result_bytes": .count(summary.resultByteCount), "changed_tensors": .count(summary.changedTensorCount),
                "new_tensors": .count(summary.newTensorCount), "removed_tensors": .count(summary.removedTensorCount),
                "equal_tensors": .count(summary.equalTensorCount), "set_values": .count(summary.setValueCount),
                "removed_values": .count(summary.removedValueCount), "notes": .strings(notes),
            ])
    }
}
