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
        if step != nil, target != .cairn, target != .universal {
            throw ValidationError("--step goes with --to cairn and deepspeed-universal only")
        }
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
    func open(_ text: String) throws -> MergeSource {
        try MergeSource(text, format: format, part: part, selection: selection)
    }
}

/// A source of a merge, opened.
struct MergeSource {
    let input: MergeInput
    let manifest: Manifest?
    /// What must not be written over.
    let recognised: RecognisedFormat
    /// What of the files is not in the reader.
    let omissions: [String]

    /// - Parameter selection: Which of its tensors are wanted; `nil` for all.
    init(
        _ text: String, format: FormatName? = nil, part: Int? = nil, selection: SelectionOptions? = nil
    ) throws {
        let opened = try OpenedCheckpoint(text, format: format, part: part)
        try opened.checkNotEmpty()
        let location = try Location(text)
        recognised = try RecognisedFormat(of: location.path, forced: format).narrowed(to: opened.manifest)
        manifest = opened.manifest
        omissions = opened.omissions.map { "\(text): \($0)" }
        var reader = opened.reader
        if let selection, !(selection.include.isEmpty && selection.exclude.isEmpty) {
            reader = try SelectedReader(reader, include: selection.include, exclude: selection.exclude)
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
