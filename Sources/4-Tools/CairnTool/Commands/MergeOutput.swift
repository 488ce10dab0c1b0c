import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// What every command that computes a checkpoint of others understands.
struct MergeOutput: ParsableArguments {
    @OptionGroup var destination: CheckpointOutput

    @Option(help: ArgumentHelp("The type of floating-point tensors. Default: the inputs'.", valueName: "type"))
    var dtype: ScalarTypeArgument?

    @Option(help: "The precision of sums: automatic (double for inputs of F64), single or double.")
    var accumulate = AccumulationArgument.automatic

    @Option(help: "What becomes of integers and other tensors that have no average: equal (or it fails), first, last.")
    var others = OtherTensorsArgument.equal

    @OptionGroup var selection: SelectionOptions

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
            text, format: destination.options.format, part: destination.options.part, selection: selection,
            taking: selection.include.isEmpty ? taking : .all)
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
        try checkPatterns(of: sources)
        var notes = notes
        for source in sources.reversed() {
            if let note = source.note, !notes.contains(note) { notes.insert(note, at: 0) }
        }
        try destination.write(
            .init(
                reader: reader, lineage: lineage, step: sources.first?.manifest?.step, metrics: metrics,
                sources: sources.map(\.files), notes: notes, skippedEntries: sources.flatMap(\.skippedEntries), facts: facts),
            "merging", schema: schema)
    }
}
