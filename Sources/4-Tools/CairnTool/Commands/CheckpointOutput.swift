import ArgumentParser
import CairnBase
import CairnCheckpoint

/// What every command that makes a checkpoint of others understands.
struct CheckpointOutput: ParsableArguments {
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Where to write.", valueName: "dst"))
    var output: String

    @Option(
        name: .customLong("to"),
        help: "The format to write; see `cairn help convert`. Default: safetensors for NAME.safetensors.")
    var outputFormat: OutputFormat?

    @Option(help: ArgumentHelp("The most bytes of tensors in a file, for safetensors-sharded.", valueName: "size"))
    var maxShardSize = ByteCountArgument(byteCount: 5_000_000_000)

    @Option(help: "The step of the new checkpoint, for cairn. Default: the source's step, or 0.")
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
        /// Numbers to go with it, for our own format.
        var metrics: [String: Double] = [:]
        /// What must not be written over.
        var sources: [SourceFiles]
        /// What is to be said of it.
        var notes: [String] = []
        /// What of the sources it lacks.
        var skippedEntries: [String] = []
        /// What the JSON document has beside what all have.
        var facts = JSONObject()
        /// Between the result and the file: a look at every byte.
        var through: (any CheckpointWriter) -> any CheckpointWriter = { $0 }
    }

    /// A checkpoint that takes part.
    struct Source {
        var reader: any CheckpointReader
        var parent: Lineage.Parent
        var files: SourceFiles
        var skippedEntries: [String]
    }

    func open(_ text: String) throws -> Source {
        let opened = try OpenedCheckpoint(text, format: options.format, part: options.part)
        try opened.checkNotEmpty()
        let path = try Location(text).path
        return Source(
            reader: opened.reader,
            parent: .init(step: opened.manifest?.step, saveID: opened.manifest?.saveID, source: path),
            files: try opened.sourceFiles(openedAt: path), skippedEntries: opened.skippedEntries.map { "\(text): \($0)" })
    }

    /// Writes a checkpoint and reports it.
    ///
    /// - Parameters:
    ///   - title: What is being done, for the progress.
    ///   - schema: What the JSON document calls itself, such as `cairn-apply/1`.
    func write(_ result: Result, _ title: String = "writing", schema: String) throws {
        var destination = Destination(path: output, format: target, options: .init())
        destination.options.replaces = force
        destination.options.compression = compressing.compression
        destination.options.maximumShardByteCount = maxShardSize.byteCount
        destination.options.step = step ?? result.step ?? 0
        destination.options.metrics = result.metrics
        destination.options.lineage = result.lineage
        destination.options.metadata = ["cairn.lineage": try result.lineage.text()]
        for source in result.sources { try destination.check(reading: source) }
        try losses.check(result.skippedEntries)
        let notes = result.notes
        let lost = try destination.write(result.reader, title, strict: losses.strict) { writer in
            for note in notes { StandardError.note(note) }
            return result.through(writer)
        }
        try report(result, destination, notes + result.skippedEntries + lost, schema)
    }

    private func report(_ result: Result, _ destination: Destination, _ notes: [String], _ schema: String) throws {
        let (reader, byteCount) = (result.reader, ShownCopy.byteCount(of: result.reader))
        guard options.json else {
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(destination.name) (\(target.name)): \(NumberText.count(reader.tensors.count, "tensor")), "
                        + "\(ByteCountText.describe(byteCount)), \(LineageText.describe(result.lineage))"))
            return
        }
        var document: JSONObject = [
            "destination": .string(output), "format": .string(target.name),
            "step": target.isRun ? .count(destination.options.step) : .null, "tensors": .count(reader.tensors.count),
            "values": .count(reader.values.count), "bytes": .count(byteCount), "lineage": .lineage(result.lineage),
            "notes": .strings(notes),
        ]
        for member in result.facts.members { document[member.key] = member.value }
        try ResultDocument.print(schema: schema, document)
    }
}
