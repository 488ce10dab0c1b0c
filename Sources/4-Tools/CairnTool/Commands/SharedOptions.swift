import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnStorage
import CairnTensor
import CairnUniversal

/// What every reading command understands.
struct ReadingOptions: ParsableArguments {
    @Option(help: "Read the input as this format instead of finding out.")
    var format: FormatName?

    @Option(help: ArgumentHelp(PartArgument.help, valueName: "n"))
    var part: Int?

    @Flag(help: "Print one JSON document instead of text for people (Docs/CLI.md describes it).")
    var json = false

    func validate() throws { try PartArgument.validate(part) }
}

/// Whether a checkpoint of a run is compressed, for every command that writes one.
struct CompressionOptions: ParsableArguments {
    @Flag(help: "Compress the tensors where that makes them smaller: exponents apart and coded, the fast way. For cairn.")
    var compress = false

    @Option(help: "With --compress: byte planes and zstd instead, at a level from 1 (fast) to 19 (small); for data with repeats.")
    var level: Int?

    func validate() throws {
        if let level, !(1...19).contains(level) {
            throw ValidationError("--level must be from 1 to 19 (got \(level))")
        }
    }

    var compression: Compression { compress ? level.map { .zstd(level: $0) } ?? .fast : .none }
}

/// Which of several saves in a file is meant.
enum PartArgument {
    static let help = "Of a file that several states were saved to, one behind the other, take this one, from 1."

    static func validate(_ part: Int?) throws {
        if let part, part < 1 { throw ValidationError("--part must be at least 1 (got \(part))") }
    }
}

/// What becomes of notes of loss, for every command that writes.
struct LossOptions: ParsableArguments {
    @Flag(help: "Make notes of loss an error: fail, and leave nothing, where something is not carried over as it was.")
    var strict = false

    /// What of a nested state names and plain values do not keep, for what does not go through a writer that says so.
    static func flattened(_ reader: any CheckpointReader) -> [String] {
        reader.structure.map { StateLosses(of: $0, in: .flat).notes } ?? []
    }

    /// - Parameter notes: What is known to be lost before anything is written.
    /// - Throws: ``CairnError/Code/unsupported`` where there are any and that is an error.
    func check(_ notes: [String]) throws(CairnError) {
        if strict, !notes.isEmpty { throw CairnError.refusing(losses: notes) }
    }
}

/// Which tensors of a checkpoint are meant.
struct SelectionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Take only tensors and values with a name like this; may be given several times.", valueName: "glob"))
    var include: [String] = []

    @Option(
        help: ArgumentHelp(
            "Leave out tensors and values with a name like this; may be given several times.", valueName: "glob"))
    var exclude: [String] = []

    /// Whether a name is meant.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern.
    func test() throws(CairnError) -> @Sendable (String) -> Bool {
        var included: [GlobPattern] = [], excluded: [GlobPattern] = []
        for text in include { included.append(try GlobPattern(text)) }
        for text in exclude { excluded.append(try GlobPattern(text)) }
        return { [included, excluded] name in
            (included.isEmpty || included.contains { $0.matches(name) }) && !excluded.contains { $0.matches(name) }
        }
    }
}

/// Rules that gather the shards of a distributed checkpoint, for the commands that read one.
struct GatherOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Gather the shards in PATH by these rules of the universal checkpoint language.", valueName: "file"))
    var rules: String?

    @Option(
        help: ArgumentHelp(
            "Sizes of mesh axes that the rules leave open; one may follow from the number of shards.",
            valueName: "axis=size,…"))
    var mesh: MeshArgument?

    func validate() throws {
        if mesh != nil, rules == nil { throw ValidationError("--mesh goes with --rules only") }
    }

    /// Opens a checkpoint: by itself, or its shards gathered.
    func open(_ path: String, format: FormatName?, part: Int? = nil) throws -> OpenedCheckpoint {
        guard let rules else { return try OpenedCheckpoint(path, format: format, part: part) }
        let specification = try RulesFile.read(rules)
        let location = try Location(path)
        let shards: [any CheckpointReader]
        if let recognised = try? CheckpointFormats.recognise(location.path, as: format),
            let openRanks = recognised.format.openRanks
        {
            shards = try openRanks(recognised.path)
        } else {
            shards = try ShardSet([location.path], format: format, part: part).readers
        }
        return OpenedCheckpoint(
            gathered: try GatheredReader(shards, spec: specification, mesh: mesh?.sizes ?? [:]))
    }
}

/// The ranks of a mesh, as the command line writes them: `tp=2,dp=4`.
struct DeviceMeshArgument: ExpressibleByArgument, Sendable {
    let mesh: DeviceMesh

    init?(argument: String) {
        guard let mesh = try? DeviceMesh(parsing: argument) else { return nil }
        self.mesh = mesh
    }

    /// The size of each axis.
    var sizes: [String: Int] {
        Dictionary(mesh.axes.map { ($0.name, $0.size) }, uniquingKeysWith: { first, _ in first })
    }
}

/// A layout for every tensor that needs no rules.
enum ReadyLayout: String, CaseIterable, ExpressibleByArgument {
    case replicated
    case fsdp
    case zero
}

/// Which layouts a checkpoint is to have.
struct LayoutSelection: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The ranks, as named axes: tp=2,dp=4. With rules their order is the rules', else the last varies fastest.",
            valueName: "axes"))
    var mesh: DeviceMeshArgument

    @Option(help: ArgumentHelp("How tensors lie on the mesh, by their names (Docs/Rules.md).", valueName: "file"))
    var rules: String?

    @Option(
        help: """
            Instead of rules, one layout for all: replicated; fsdp (the first dimension in chunks, over all axes in turn); \
            zero (flattened and cut over the axis dp, or the only one).
            """)
    var layout: ReadyLayout?

    func validate() throws {
        guard (rules == nil) != (layout == nil) else { throw ValidationError("give either --rules or --layout") }
    }

    /// Every stored tensor of a checkpoint with its layout.
    ///
    /// - Throws: ``CairnError`` for rules that cannot be read or leave a tensor out, and for layouts that do not fit; it
    ///   names the tensor and the rule.
    func tensors(of reader: any CheckpointReader) throws -> [PlacedTensor] {
        if let rules { return try RulesFile.read(rules).placedTensors(of: reader, mesh: mesh.sizes) }
        let stored = reader.tensors.filter { $0.tiedTo == nil }
        return try stored.map { tensor in
            PlacedTensor(
                name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape,
                layout: try ready(for: tensor))
        }
    }

    private func ready(for tensor: TensorDescription) throws(CairnError) -> Layout {
        let axes = mesh.mesh.axes
        switch layout {
        case .replicated, nil: return .replicated(on: mesh.mesh)
        case .fsdp:
            guard tensor.shape.dimensionCount > 0 else { return .replicated(on: mesh.mesh) }
            return try Layout(mesh.mesh, steps: axes.map { .init($0.name, .shard(0, .chunked)) })
        case .zero:
            guard let axis = axes.first(where: { $0.name == "dp" }) ?? (axes.count == 1 ? axes.first : nil) else {
                throw CairnError(
                    .invalidArgument, "no axis to cut flattened tensors over",
                    .init(expected: "an axis dp, or only one", found: "mesh \(mesh.mesh)"))
            }
            return try Layout(mesh.mesh, [axis.name: .flatten(.perTensor)])
        }
    }
}
