import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor

/// `cairn convert`
struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Write a checkpoint in another format.",
        discussion: """
            DST is, by format:
            \(OutputFormat.summary)
            In a directory the files are named model.safetensors, or model-00001-of-0000N.safetensors and an index.

            The source is never touched, nothing is replaced without --force, and an interrupted or failed conversion \
            leaves nothing that looks like a result. Of safetensors-sharded the finished files stay: the same command \
            again verifies them and continues after them. What the format cannot carry over, and numbers that \
            --dtype makes infinite, are said on standard error; with --strict they are errors. \
            Memory stays small whatever the size of the checkpoint.

            With --rules SRC is the shards of a distributed checkpoint, a directory with one for each rank, or a \
            DeepSpeed checkpoint with several model ranks; what they are parts of is written.

            First --weights-only leaves the weights, then --include and --exclude choose, by the names so far; then \
            --rename applies, the first rule that fits; in a replacement $1 is what the pattern's first wildcard stands \
            for, and so on.

            Examples:
              cairn convert runs/kjv@400 half.safetensors --to safetensors --dtype BF16
              cairn convert llama/ runs/llama --to cairn --step 0 --rename 'model.*=$1'
              cairn convert zero/ weights.safetensors --to safetensors --weights-only
              cairn convert runs/kjv export/ --to safetensors-sharded --max-shard-size 2GB
              cairn convert shards/ llama.safetensors --to safetensors --rules megatron.yaml --mesh tp=4,pp=2,dp=1
            """)

    @Argument(help: ArgumentHelp("A run, a checkpoint, or a file or directory of another format.", valueName: "src"))
    var source: String

    @Argument(help: ArgumentHelp("Where to write.", valueName: "dst"))
    var destination: String

    @Option(name: .customLong("to"), help: "The format to write.")
    var outputFormat: OutputFormat

    @Option(help: ArgumentHelp("Convert floating-point tensors to this type.", valueName: "type"))
    var dtype: ScalarTypeArgument?

    @OptionGroup var selection: SelectionOptions

    @OptionGroup var gather: GatherOptions

    @Option(
        help: ArgumentHelp("Rename what fits a pattern; may be given several times.", valueName: "pattern=replacement"))
    var rename: [RenameArgument] = []

    @Option(
        help: ArgumentHelp("The most bytes of tensors in a file, for safetensors-sharded.", valueName: "size"))
    var maxShardSize = ByteCountArgument(byteCount: 5_000_000_000)

    @Flag(
        help: """
            Of a DeepSpeed checkpoint write the weights alone, under the names that the model has for them: NAME.fp32, or NAME.param \
            of what is not trained, and NAME.buffer become NAME.
            """)
    var weightsOnly = false

    @Flag(help: "Sum or average the partial tensors that the ranks of SRC saved.")
    var reduce = false

    @Option(help: ArgumentHelp("Shard the tensors over so many files, for dcp and dcp-safetensors.", valueName: "n"))
    var shards: Int?

    @Option(help: "The step of the new checkpoint, for cairn. Default: the source's step, or 0.")
    var step: Int?

    @OptionGroup var compressing: CompressionOptions

    @Flag(help: "Replace a checkpoint that is there already.")
    var force = false

    @OptionGroup var losses: LossOptions

    @OptionGroup var options: ReadingOptions

    func validate() throws {
        for argument in rename {
            do throws(CairnError) {
                _ = try argument.rule()
            } catch {
                throw ValidationError("--rename: \(error)")
            }
        }
        if let step, step < 0 { throw ValidationError("--step must not be negative (got \(step))") }
        if let shards {
            if !(1...65_536).contains(shards) { throw ValidationError("--shards must be from 1 to 65536 (got \(shards))") }
        }
        try outputFormat.check("--shards", isGiven: shards != nil, .fileCount)
        try outputFormat.check("--step", isGiven: step != nil, .step)
        try outputFormat.check("--compress", isGiven: compressing.compress, .compression)
    }

    func run() throws {
        let location = try Location(source)
        let opened = try gather.open(source, format: options.format, part: options.part)
        try opened.checkNotEmpty()
        try losses.check(opened.skippedEntries)
        var target = Destination(path: destination, format: outputFormat, options: .init())
        target.options.replaces = force
        target.options.compression = compressing.compression
        target.options.maximumShardByteCount = maxShardSize.byteCount
        target.options.fileCount = shards ?? 1
        target.options.step = step ?? opened.manifest?.step ?? 0
        target.options.metrics = opened.manifest?.metrics ?? [:]
        target.options.lineage = Lineage(
            operation: "conversion",
            parents: [.init(step: opened.manifest?.step, saveID: opened.manifest?.saveID, source: location.path)])
        let approximate = try keptApproximate(opened)
        if !approximate.isEmpty {
            target.options.lineage?.details["approximate"] = .dictionary(approximate.mapValues { .string($0) })
            target.options.metadata["cairn.lineage"] = try target.options.lineage?.text()
            StandardError.note(
                "\(source) has \(NumberText.count(approximate.count, "tensor")) made up after a loss: "
                    + NameList.text(approximate.keys.sorted()))
        }
        try target.check(reading: opened.sourceFiles(openedAt: location.path))
        let torn = try tornApart(opened)
        let whole = try reduce ? opened.reduced() : opened.reader
        let reader = try view(of: weightsOnly ? ModuleWeights(whole) : whole)
        var resumed: (any CheckpointWriter)?
        let notes = try target.write(reader, "converting", strict: losses.strict) { writer in
            try writer.continueInterrupted {
                try ConversionIdentity.text(
                    of: reader, saveID: opened.manifest.map { "\($0.saveID)" }, source: location.path,
                    options: [outputFormat.name, "\(maxShardSize.byteCount)", gather.rules ?? ""])
            }
            resumed = writer
            return writer
        }
        if let count = resumed?.resumedTensorCount, count > 0 {
            StandardError.note("continued after \(count) tensors that an interrupted conversion had written")
        }
        try report(reader, step: target.options.step, notes: opened.skippedEntries + torn + notes)
    }

    /// The tensors of the source that were made up after a loss and are written, by their new names.
    private func keptApproximate(_ opened: OpenedCheckpoint) throws -> [String: String] {
        let selects = try selection.test()
        let rules = try rename.map { try $0.rule() }
        var kept: [String: String] = [:]
        for (name, origin) in ApproximateTensors(of: opened.reader, lineage: opened.manifest?.lineage).all where selects(name) {
            kept[rules.lazy.compactMap { $0.apply(to: name) }.first ?? name] = origin
        }
        return kept
    }

    /// What the selection tears apart of weights in codes; a conversion of their types is refused.
    private func tornApart(_ opened: OpenedCheckpoint) throws -> [String] {
        let quantised = opened.quantised(besides: source), selects = try selection.test()
        if dtype != nil { try quantised.refuse("--dtype", of: opened.reader.source, where: selects) }
        let notes = quantised.lossNote(where: selects).map { [$0] } ?? []
        try losses.check(notes)
        for note in notes { StandardError.note(note) }
        return notes
    }

    /// What is to be written: chosen, renamed, cast.
    private func view(of source: any CheckpointReader) throws -> any CheckpointReader {
        var reader = source
        if !selection.include.isEmpty || !selection.exclude.isEmpty {
            reader = try SelectedReader(reader, include: selection.include, exclude: selection.exclude)
        }
        if !rename.isEmpty { reader = try RenamedReader(reader, rules: rename.map { try $0.rule() }) }
        if let dtype { reader = try CastReader(reader, to: dtype.scalarType) }
        return reader
    }

    private func report(_ reader: any CheckpointReader, step: Int, notes: [String]) throws {
        let byteCount = ShownCopy.byteCount(of: reader)
        guard options.json else {
            let written = outputFormat.isRun ? "\(destination)@\(step)" : destination
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(written) (\(outputFormat.name)): \(NumberText.count(reader.tensors.count, "tensor")), "
                        + "\(NumberText.count(reader.values.count, "value")), \(ByteCountText.describe(byteCount))"))
            return
        }
        try ResultDocument.print(
            schema: "cairn-convert/1",
            [
                "source": .string(source), "destination": .string(destination),
                "format": .string(outputFormat.name),
                "step": outputFormat.isRun ? .count(step) : .null, "tensors": .count(reader.tensors.count),
                "values": .count(reader.values.count), "bytes": .count(byteCount), "notes": .strings(notes),
            ])
    }
}

/// What tells a conversion from others: the source's tensors and values, its files as they are, and what is asked for.
enum ConversionIdentity {
    /// - Parameter options: What else decides on the result's bytes.
    static func text(
        of reader: any CheckpointReader, saveID: String?, source: String, options: [String]
    ) throws -> String {
        var lines = ["source \(PathInspection.canonical(source)) \(saveID ?? "")"] + options
        for tensor in reader.tensors {
            lines.append("\(tensor.name) \(tensor.scalarType) \(tensor.shape) \(tensor.tiedTo ?? "")")
        }
        for value in reader.values { lines.append("\(value.name) \(value.value)") }
        // A source that was written anew is another one.
        let (storage, prefix) =
            try PathInspection.kind(of: source) == .directory
            ? (LocalStorage(root: source), "") : try LocalStorage.locate(source)
        for entry in try storage.list(prefix) { lines.append("\(entry.key) \(entry.byteCount) \(entry.modified)") }
        let sum = try SHA256.digest(of: Array(lines.joined(separator: "\n").utf8).span.bytes)
        return Hexadecimal.encode(sum)
    }
}
