import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// `cairn interpolate`
struct InterpolateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "interpolate", abstract: "Write a point of the line or the arc between two checkpoints.",
        discussion: """
            A is at 0, B at 1; --at may lie outside. With --layer some tensors have another position: the first pattern that \
            fits counts, so that layer by layer one model turns into the other. With --arc the way is the great circle \
            (SLERP) instead of the straight line. Of training states the model's tensors are taken; --all takes everything.

            Examples:
              cairn interpolate runs/a@400 runs/b@400 --at 0.5 -o middle.safetensors
              cairn interpolate a.safetensors b.safetensors --at 0 --layer 'blocks.3.*=1' -o one-layer.safetensors
              cairn interpolate a/ b/ --at 0.3 --arc -o ab/ --to safetensors-sharded
            """)

    @Argument(help: ArgumentHelp("What is at 0.", valueName: "a"))
    var first: String

    @Argument(help: ArgumentHelp("What is at 1.", valueName: "b"))
    var second: String

    @Option(help: "The position between the two.")
    var at: Double

    @Option(
        help: ArgumentHelp(
            "The position of tensors with a name like this; may be given several times.", valueName: "glob=at"))
    var layer: [PlaceArgument] = []

    @Flag(help: "Along the great circle of each tensor.")
    var arc = false

    @OptionGroup var training: TrainingOptions

    @OptionGroup var result: MergeOutput

    func validate() throws {
        if !at.isFinite { throw ValidationError("--at must be a finite number (got \(at))") }
    }

    func run() throws {
        let sources = try [first, second].map { try result.open($0, taking: training.parts) }
        var layers: [(pattern: GlobPattern, at: Double)] = []
        for entry in layer {
            let pattern = try GlobPattern(entry.pattern)
            guard sources[0].input.reader.tensors.contains(where: { pattern.matches($0.name) }) else {
                throw CairnError(
                    .notFound, "a pattern fits no tensor", .init(file: first, found: entry.pattern.debugDescription))
            }
            layers.append((pattern, entry.at))
        }
        func position(_ name: String) -> Double { layers.first { $0.pattern.matches(name) }?.at ?? at }
        let names = sources[0].input.reader.tensors.map(\.name)
        let idle = layers.indices.filter { index in
            !names.contains { name in layers.firstIndex { $0.pattern.matches(name) } == index }
        }.map { "--layer \(layer[$0].pattern.debugDescription) changes nothing: patterns before it fit all its tensors" }
        let inputs = sources.map(\.input)
        let merged =
            try arc
            ? MergedCheckpoint(inputs, operation: "slerp", options: result.mergeOptions) { .slerp(t: position($0)) }
            : MergedCheckpoint(interpolating: inputs[0], inputs[1], options: result.mergeOptions) { position($0) }
        try result.write(
            merged, lineage: merged.lineage, notes: merged.notes + idle, of: sources, schema: "cairn-interpolate/1")
    }
}

/// `blocks.3.*=0.5`
struct PlaceArgument: ExpressibleByArgument {
    let pattern: String
    let at: Double

    init?(argument: String) {
        guard let equals = argument.lastIndex(of: "="), equals > argument.startIndex,
            let at = Double(argument[argument.index(after: equals)...]), at.isFinite
        else { return nil }
        pattern = String(argument[..<equals])
        self.at = at
    }
}
