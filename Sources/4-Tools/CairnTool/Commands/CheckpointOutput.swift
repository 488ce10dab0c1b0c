import ArgumentParser
import CairnBase
import CairnCheckpoint

/// What the commands understand that put a checkpoint together of others without computing anything.
struct CheckpointOutput: ParsableArguments {
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Where to write.", valueName: "dst"))
    var output: String

    @Option(
        name: .customLong("to"),
        help: "The format to write; see `cairn help convert`. Default: safetensors for NAME.safetensors.")
    var outputFormat: OutputFormat?

    @Option(help: ArgumentHelp("The most bytes of tensors in a file, for safetensors-sharded.", valueName: "size"))
    var maxShardSize = ByteCountArgument(byteCount: 5_000_000_000)

    @Option(help: "The step of the new checkpoint, for cairn. Default: what the command knows of it, or 0.")
    var step: Int?

    @OptionGroup var compressing: CompressionOptions

    @Flag(help: "Replace a checkpoint that is there already.")
    var force = false

    @OptionGroup var losses: LossOptions

    @OptionGroup var options: ReadingOptions

    func validate() throws {
        if let step, step < 0 { throw ValidationError("--step must not be negative (got \(step))") }
        if outputFormat == nil, !output.hasSuffix(".safetensors") {
            throw ValidationError("--to is needed unless the output ends with .safetensors")
        }
        try target.check("--step", isGiven: step != nil, .step)
        try target.check("--compress", isGiven: compressing.compress, .compression)
    }

    var target: OutputFormat { outputFormat ?? .safetensors }

    /// What is written, and how it came to be.
    struct Result {
        var reader: any CheckpointReader
        var lineage: Lineage
        /// The step that it is of, where that is known.
        var step: Int?
        /// What must not be written over.
        var sources: [SourceFiles]
        /// What is to be said of it.
        var notes: [String] = []
        /// What the JSON document has beside what all have.
        var facts = JSONObject()
        /// Between the result and the file: a look at every byte.
        var through: (any CheckpointWriter) -> any CheckpointWriter = { $0 }
    }

    /// Writes a checkpoint and reports it.
    ///
    /// - Parameter schema: What the JSON document calls itself, such as `cairn-apply/1`.
    func write(_ result: Result, schema: String) throws {
        var destination = Destination(path: output, format: target, options: .init())
        destination.options.replaces = force
        destination.options.compression = compressing.compression
        destination.options.maximumShardByteCount = maxShardSize.byteCount
        destination.options.step = step ?? result.step ?? 0
        destination.options.lineage = result.lineage
        destination.options.metadata = ["cairn.lineage": try result.lineage.text()]
        for source in result.sources { try destination.check(reading: source) }
        try losses.check(result.notes)
        for note in result.notes { StandardError.note(note) }
        let absent = try AbsentDirectories(upTo: output)
        do {
            let writer = try destination.writer()
            Interruption.watch()
            let byteCount = result.reader.tensors.lazy.filter { $0.tiedTo == nil }.totalByteCount
            let bar = ProgressBar("writing", total: byteCount)
            let lost: [String]
            do {
                defer { bar.finish() }
                var before = 0
                lost = try copyCheckpoint(
                    from: result.reader, to: InterruptibleWriter(result.through(writer)), strict: losses.strict
                ) { written, _ in
                    bar.add(written - before)
                    before = written
                }
            }
            for note in lost { StandardError.note(note) }
            try report(result, step: destination.options.step, notes: result.notes + lost, byteCount, schema)
        } catch {
            absent.removeEmpty()
            throw error
        }
    }

    private func report(_ result: Result, step: Int, notes: [String], _ byteCount: Int, _ schema: String) throws {
        let (reader, lineage) = (result.reader, result.lineage)
        guard options.json else {
            let written = target.isRun ? "\(output)@\(step)" : output
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(written) (\(target.name)): \(NumberText.count(reader.tensors.count, "tensor")), "
                        + "\(ByteCountText.describe(byteCount)), \(LineageText.describe(lineage))"))
            return
        }
        var document: JSONObject = [
            "destination": .string(output), "format": .string(target.name), "step": target.isRun ? .count(step) : .null,
            "tensors": .count(reader.tensors.count), "values": .count(reader.values.count), "bytes": .count(byteCount),
            "lineage": .lineage(lineage), "notes": .strings(notes),
        ]
        for member in result.facts.members { document[member.key] = member.value }
        try ResultDocument.print(schema: schema, document)
    }
}
