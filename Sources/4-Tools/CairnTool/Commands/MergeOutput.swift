import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// What every command that makes a checkpoint of others understands.
struct MergeOutput: ParsableArguments {
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Where to write.", valueName: "dst"))
    var output: String

    @Option(
        name: .customLong("to"),
        help: "The format to write; see `cairn help convert`. Default: safetensors for NAME.safetensors.")
    var outputFormat: OutputFormat?

    @Option(help: ArgumentHelp("The type of floating-point tensors. Default: the inputs'.", valueName: "type"))
    var dtype: ScalarTypeArgument?

    @Option(help: "The precision of sums: automatic (double for inputs of F64), single or double.")
    var accumulate = AccumulationArgument.automatic

    @Option(help: "What becomes of integers and other tensors that have no average: equal (or it fails), first, last.")
    var others = OtherTensorsArgument.equal

    @OptionGroup var selection: SelectionOptions

    @Option(help: ArgumentHelp("The most bytes of tensors in a file, for safetensors-sharded.", valueName: "size"))
    var maxShardSize = ByteCountArgument(byteCount: 5_000_000_000)

    @Option(help: "The step of the new checkpoint, for cairn. Default: the first source's step, or 0.")
    var step: Int?

    @OptionGroup var compressing: CompressionOptions

    @Flag(help: "Replace a checkpoint that is there already.")
    var force = false

    @OptionGroup var losses: LossOptions

    @Option(help: "Read sources as this format instead of finding out.")
    var format: FormatName?

    @Option(help: ArgumentHelp(PartArgument.help, valueName: "n"))
    var part: Int?

    @Flag(help: "Print one JSON document instead of text for people (Docs/CLI.md describes it).")
    var json = false

    func validate() throws {
        try PartArgument.validate(part)
        if let step, step < 0 { throw ValidationError("--step must not be negative (got \(step))") }
        if outputFormat == nil, !output.hasSuffix(".safetensors") {
            throw ValidationError("--to is needed unless the output ends with .safetensors")
        }
        try target.check("--step", isGiven: step != nil, .step)
        try target.check("--compress", isGiven: compressing.compress, .compression)
    }

    var target: OutputFormat { outputFormat ?? .safetensors }

    /// How to merge, as far as these options say; an interruption of the process stops it.
    var mergeOptions: MergeOptions {
        var options = MergeOptions()
        options.accumulation = accumulate.accumulation
        options.otherTensors = others.policy
        options.outputType = dtype?.scalarType
        options.interruption = { try Interruption.check() }
        return options
    }

    /// Opens a source, as far as its tensors are wanted.
    ///
    /// - Parameter taking: Whether of a training state the model's tensors are wanted only, or all, which is then said.
    ///   Names that are selected are wanted whatever they are.
    func open(_ text: String, taking: TrainingParts = .all) throws -> MergeSource {
        try MergeSource(
            text, format: format, part: part, selection: selection, taking: selection.include.isEmpty ? taking : .all)
    }

    /// A checkpoint as far as its tensors are wanted.
    func selected(_ reader: any CheckpointReader) throws -> any CheckpointReader {
        if selection.include.isEmpty && selection.exclude.isEmpty { return reader }
        return SelectedReader(reader, where: try selection.test())
    }

    /// Refuses a pattern that fits a name of no source: one that does not is a mistake in the pattern.
    func checkPatterns(of sources: [MergeSource]) throws(CairnError) {
        for text in selection.include + selection.exclude {
            let pattern = try GlobPattern(text)
            guard sources.contains(where: { $0.names.contains(where: pattern.matches) }) else {
                throw CairnError(
                    .notFound, "a pattern fits no name of the checkpoints",
                    .init(
                        file: sources.first?.input.reader.source, found: text.debugDescription,
                        advice: "list the names and correct it"))
            }
        }
    }
}

/// What of a training state takes part in a merge.
enum TrainingParts {
    case model
    case all
    /// All, which is worth a note.
    case allKnowingly
}

/// What the commands understand that average what training wrote.
struct TrainingOptions: ParsableArguments {
    @Flag(
        name: .customLong("all"),
        help: "Take all tensors of training states: moments, counters and states of generators too.")
    var takesAll = false

    var parts: TrainingParts { takesAll ? .allKnowingly : .model }
}

/// A source of a merge, opened.
struct MergeSource {
    let input: MergeInput
    let manifest: Manifest?
    /// What must not be written over.
    let files: SourceFiles
    /// What of the files is not in the reader.
    let skippedEntries: [String]
    /// The names of everything that it has.
    let names: [String]
    /// What is to be said of what takes part.
    let note: String?

    /// - Parameters:
    ///   - part: Which of several saves in a file.
    ///   - selection: Which of its tensors are wanted; `nil` for all.
    ///   - taking: What of a training state is wanted.
    init(
        _ text: String, format: FormatName? = nil, part: Int? = nil, selection: SelectionOptions? = nil,
        taking: TrainingParts = .all
    ) throws {
        let opened = try OpenedCheckpoint(text, format: format, part: part)
        try opened.checkNotEmpty()
        let location = try Location(text)
        files = try opened.sourceFiles(openedAt: location.path)
        manifest = opened.manifest
        skippedEntries = opened.skippedEntries.map { "\(text): \($0)" }
        let selects: @Sendable (String) -> Bool
        if let selection { selects = try selection.test() } else { selects = { _ in true } }
        var reader = opened.reader
        names = reader.tensors.map(\.name) + reader.values.map(\.name)
        let model = taking == .all ? nil : ModelTensors(of: reader)
        try opened.quantised(besides: text).refuse("a merge", of: reader.source) { name in
            selects(name) && (taking != .model || model?.contains(name) ?? true)
        }
        switch (taking, model) {
        case (.model, let model?):
            reader = model.view(reader)
            note = "of training states the model's tensors are taken, and not \(model.leftOutText): --all takes everything"
        case (.allKnowingly, let model?):
            note = "everything of training states is merged as weights are, \(model.leftOutText) too"
        default: note = nil
        }
        if let selection, !(selection.include.isEmpty && selection.exclude.isEmpty) {
            reader = SelectedReader(reader, where: selects)
        }
        input = MergeInput(
            reader, parent: .init(step: manifest?.step, saveID: manifest?.saveID, source: location.path))
    }
}

enum AccumulationArgument: String, CaseIterable, ExpressibleByArgument {
    case automatic, single, double

    var accumulation: MergeOptions.Accumulation {
        switch self {
        case .automatic: .automatic
        case .single: .single
        case .double: .double
        }
    }
}

enum OtherTensorsArgument: String, CaseIterable, ExpressibleByArgument {
    case equal, first, last

    var policy: MergeOptions.OtherTensors {
        switch self {
        case .equal: .equal
        case .first: .first
        case .last: .last
        }
    }
}

extension MergeOutput {
    /// Writes a merge and reports it.
    ///
    /// - Parameters:
    ///   - metrics: Numbers to go with it, for our own format.
    ///   - schema: What the JSON document calls itself, such as `cairn-average/1`.
    func write(
        _ merged: MergedCheckpoint, of sources: [MergeSource], schema: String, metrics: [String: Double] = [:]
    ) throws {
        try write(
            merged, lineage: merged.lineage, notes: merged.notes, of: sources, schema: schema, metrics: metrics)
    }

    /// The same of any reader.
    func write(
        _ reader: any CheckpointReader, lineage: Lineage, notes: [String], of sources: [MergeSource], schema: String,
        metrics: [String: Double] = [:], facts: JSONObject = JSONObject()
    ) throws {
        var destination = Destination(path: output, format: target, options: .init())
        destination.options.replaces = force
        destination.options.compression = compressing.compression
        destination.options.maximumShardByteCount = maxShardSize.byteCount
        destination.options.step = step ?? sources.first?.manifest?.step ?? 0
        destination.options.metrics = metrics
        destination.options.lineage = lineage
        destination.options.metadata = ["cairn.lineage": try lineage.text()]
        try checkPatterns(of: sources)
        var notes = notes
        for source in sources.reversed() {
            if let note = source.note, !notes.contains(note) { notes.insert(note, at: 0) }
        }
        for source in sources { try destination.check(reading: source.files) }
        let writer = try destination.writer()
        let left = sources.flatMap(\.skippedEntries)
        try losses.check(left)
        for note in notes { StandardError.note(note) }
        Interruption.watch()
        let byteCount = reader.tensors.lazy.filter { $0.tiedTo == nil }.totalByteCount
        let bar = ProgressBar("merging", total: byteCount)
        let skippedEntries: [String]
        do {
            defer { bar.finish() }
            var before = 0
            skippedEntries = try copyCheckpoint(
                from: reader, to: InterruptibleWriter(writer), strict: losses.strict
            ) { written, _ in
                bar.add(written - before)
                before = written
            }
        }
        for entry in skippedEntries { StandardError.note(entry) }
        try report(reader, destination, lineage, notes + left + skippedEntries, byteCount, schema, facts)
    }

    private func report(
        _ reader: any CheckpointReader, _ destination: Destination, _ lineage: Lineage, _ notes: [String],
        _ byteCount: Int, _ schema: String, _ facts: JSONObject
    ) throws {
        let written = target.isRun ? "\(output)@\(destination.options.step)" : output
        guard json else {
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(written) (\(target.name)): \(NumberText.count(reader.tensors.count, "tensor")), "
                        + "\(ByteCountText.describe(byteCount)), \(LineageText.describe(lineage))"))
            return
        }
        var document: JSONObject = [
            "destination": .string(output), "format": .string(target.name),
            "step": target.isRun ? .count(destination.options.step) : .null, "tensors": .count(reader.tensors.count),
            "values": .count(reader.values.count), "bytes": .count(byteCount), "lineage": .lineage(lineage),
            "notes": .strings(notes),
        ]
        for member in facts.members { document[member.key] = member.value }
        try ResultDocument.print(schema: schema, document)
    }
}
