import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// What `cairn repair` understands of lost layers.
struct LostLayerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What is lost: a pattern of names such as 'model.layers.{8..11}.*', or auto for all that cannot be read; may be "
                + "given several times.", valueName: "glob"))
    var lost: [String] = []

    @Option(help: "What takes its place: neighbours, older:STEP, copy:LAYER or init. older takes a path too.")
    var from: RecoveryArgument?

    @Option(
        help: "How neighbours are weighed: grad (by the norms of their gradients, read off Adam's moments), grad-squared, equal.")
    var weights: NeighbourWeightsArgument?

    @Option(help: "Chooses the random numbers of --from init. Default: 0.")
    var seed: UInt64?

    @Option(help: "Adam's second beta, for --weights. Default: what the checkpoint says, or 0.999.")
    var beta2: Double?

    @Option(
        name: .customLong("to"),
        help: "The format of the result; see `cairn help convert`. Default: safetensors for NAME.safetensors.")
    var outputFormat: OutputFormat?

    @Option(help: "The step of the result, for cairn. Default: the source's step, or 0.")
    var step: Int?

    @Option(help: ArgumentHelp("The most bytes of tensors in a file, for safetensors-sharded.", valueName: "size"))
    var maxShardSize = ByteCountArgument(byteCount: 5_000_000_000)

    @Option(help: ArgumentHelp("Shard the tensors over so many files, for dcp and dcp-safetensors.", valueName: "n"))
    var shards: Int?

    @OptionGroup var compressing: CompressionOptions

    @Option(help: "With --lost: read PATH as this format instead of finding out.")
    var format: FormatName?

    @Option(help: ArgumentHelp(PartArgument.help, valueName: "n"))
    var part: Int?

    var isGiven: Bool { !lost.isEmpty }

    func validate() throws {
        try PartArgument.validate(part)
        guard isGiven else {
            let others: [(String, Bool)] = [
                ("--from", from != nil), ("--weights", weights != nil), ("--seed", seed != nil), ("--beta2", beta2 != nil),
                ("--to", outputFormat != nil), ("--step", step != nil), ("--shards", shards != nil),
                ("--compress", compressing.compress), ("--format", format != nil), ("--part", part != nil),
            ]
            if let other = others.first(where: \.1) { throw ValidationError("\(other.0) goes with --lost") }
            return
        }
        guard let from else {
            throw ValidationError("--lost needs --from: neighbours, older:STEP, copy:LAYER or init")
        }
        if lost.contains("auto"), lost.count > 1 { throw ValidationError("--lost auto goes without patterns") }
        if weights != nil, from != .neighbours { throw ValidationError("--weights goes with --from neighbours") }
        if beta2 != nil, from != .neighbours || weights == .equal {
            throw ValidationError("--beta2 goes with --from neighbours and weights of gradients")
        }
        if let beta2, !(0..<1).contains(beta2) { throw ValidationError("--beta2 must be from 0 to below 1 (got \(beta2))") }
        if seed != nil, from != .initial { throw ValidationError("--seed goes with --from init") }
        if let step, step < 0 { throw ValidationError("--step must not be negative (got \(step))") }
        if let shards, !(1...65_536).contains(shards) {
            throw ValidationError("--shards must be from 1 to 65536 (got \(shards))")
        }
    }

    /// Checks what the output's format has a place for.
    func checkTarget(_ output: String) throws {
        if outputFormat == nil, !output.hasSuffix(".safetensors") {
            throw ValidationError("--to is needed unless the output ends with .safetensors")
        }
        try target.check("--step", isGiven: step != nil, .step)
        try target.check("--shards", isGiven: shards != nil, .fileCount)
        try target.check("--compress", isGiven: compressing.compress, .compression)
    }

    var target: OutputFormat { outputFormat ?? .safetensors }
}

/// What takes the place of lost layers, as the command line has it.
enum RecoveryArgument: ExpressibleByArgument, Equatable {
    case neighbours, initial
    case layer(Int)
    case older(String)

    init?(argument: String) {
        if argument == "neighbours" {
            self = .neighbours
        } else if argument == "init" {
            self = .initial
        } else if argument.hasPrefix("copy:"), let layer = Int(argument.dropFirst(5)), layer >= 0 {
            self = .layer(layer)
        } else if argument.hasPrefix("older:"), argument.count > 6 {
            self = .older(String(argument.dropFirst(6)))
        } else {
            return nil
        }
    }
}

enum NeighbourWeightsArgument: String, CaseIterable, ExpressibleByArgument {
    case grad
    case gradSquared = "grad-squared"
    case equal

    var weights: NeighbourWeights {
        switch self {
        case .grad: .gradientNorms
        case .gradSquared: .squaredNorms
        case .equal: .equal
        }
    }
}

/// `cairn repair --lost`: something trainable of a checkpoint of which layers are lost.
struct LostLayerRepair {
    let path: String
    let output: String
    let options: LostLayerOptions
    let replaces: Bool
    let losses: LossOptions
    let json: Bool

    func run() throws {
        let opened = try OpenedCheckpoint(
            path, format: options.format, part: options.part, toleratesMissingFiles: true)
        try losses.check(opened.skippedEntries)
        let location = try Location(path)
        var destination = Destination(path: output, format: options.target, options: .init())
        destination.options.replaces = replaces
        destination.options.compression = options.compressing.compression
        destination.options.maximumShardByteCount = options.maxShardSize.byteCount
        destination.options.fileCount = options.shards ?? 1
        destination.options.step = options.step ?? opened.manifest?.step ?? 0
        try destination.check(reading: opened.sourceFiles(openedAt: location.path))
        Interruption.watch()
        let lost = try lost(of: opened)
        let recovered = try recover(opened, lost, location)
        destination.options.lineage = recovered.lineage
        destination.options.metadata = ["cairn.lineage": try recovered.lineage.text()]
        let written = try destination.write(recovered, "writing", strict: losses.strict) { writer in
            for note in recovered.notes { StandardError.note(note) }
            return writer
        }
        try report(recovered, lost, destination, opened.skippedEntries + recovered.notes + written)
    }

    /// What is lost: by the patterns, or what cannot be read.
    private func lost(of opened: OpenedCheckpoint) throws -> LostTensors {
        guard options.lost == ["auto"] else { return try LostTensors(options.lost, of: opened.reader) }
        let bar = ProgressBar("reading", total: ShownCopy.byteCount(of: opened.reader))
        defer { bar.finish() }
        let lost = try LostTensors(unreadableIn: opened.reader, absent: opened.absentTensors, deep: true) { count in
            try Interruption.check()
            bar.add(count)
        }
        if !lost.extents.isEmpty {
            let partial = lost.extents.count { $0.isPartial }
            StandardError.note(
                "\(NumberText.count(lost.extents.count, "tensor")) cannot be read, \(partial) of them only in part: "
                    + NameList.text(lost.extents.map(\.description)))
        }
        return lost
    }

    private func recover(
        _ opened: OpenedCheckpoint, _ lost: LostTensors, _ location: Location
    ) throws -> RecoveredCheckpoint {
        var recovery = RecoveryOptions(seed: options.seed ?? 0, beta2: options.beta2)
        recovery.merging.interruption = { try Interruption.check() }
        let parent = Lineage.Parent(
            step: opened.manifest?.step, saveID: opened.manifest?.saveID, source: location.path)
        let source: LossRecovery, older: Lineage.Parent?
        switch options.from {
        case .layer(let layer): (source, older) = (.copy(layer: layer), nil)
        case .initial: (source, older) = (.initial, nil)
        case .older(let name): (source, older) = try self.older(name, of: opened)
        case .neighbours, nil: (source, older) = (.neighbours(options.weights?.weights ?? .gradientNorms), nil)
        }
        return try RecoveredCheckpoint(opened.reader, lost: lost, from: source, options: recovery, parent: parent, older: older)
    }

    /// A step of the same run, or a checkpoint by its path.
    private func older(_ name: String, of opened: OpenedCheckpoint) throws -> (LossRecovery, Lineage.Parent) {
        let other: OpenedCheckpoint, source: String
        if let step = Int(name), step >= 0 {
            guard let run = opened.recognised, run.step != nil else {
                throw CairnError(
                    .invalidArgument, "only a run has other steps to take lost tensors from",
                    .init(file: path, found: "older:\(name)", advice: "name another checkpoint by its path: --from older:PATH"))
            }
            guard run.step != step else {
                throw CairnError(
                    .invalidArgument, "lost tensors cannot be taken from the very checkpoint that lost them", .init(file: path))
            }
            (other, source) = (try OpenedCheckpoint(store: run.path, step: step), run.path)
        } else {
            (other, source) = (try OpenedCheckpoint(name), try Location(name).path)
        }
        return (
            .older(other.reader), Lineage.Parent(step: other.manifest?.step, saveID: other.manifest?.saveID, source: source)
        )
    }

    private func report(
        _ recovered: RecoveredCheckpoint, _ lost: LostTensors, _ destination: Destination, _ notes: [String]
    ) throws {
        let target = options.target
        guard json else {
            return try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(destination.name) (\(target.name)): \(NumberText.count(recovered.tensors.count, "tensor")), "
                        + "\(recovered.approximate.count) of them approximate, \(LineageText.describe(recovered.lineage))"))
        }
        try ResultDocument.print(
            schema: "cairn-repair/1",
            [
                "ok": .bool(true), "source": .string(path), "destination": .string(output), "format": .string(target.name),
                "step": target.isRun ? .count(destination.options.step) : .null,
                "tensors": .count(recovered.tensors.count), "approximate": .strings(recovered.approximate),
                "lost": .array(
                    lost.extents.map { extent in
                        [
                            "fqn": .string(extent.tensor), "lost_pieces": extent.pieces.map { .count($0.lost) } ?? .null,
                            "pieces": extent.pieces.map { .count($0.all) } ?? .null,
                        ]
                    }),
                "lineage": .lineage(recovered.lineage), "notes": .strings(notes),
            ])
    }
}
