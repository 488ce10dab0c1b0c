import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage
import CairnTensor

/// `cairn align`
struct AlignCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "align", abstract: "Put the units of a network in the order that makes its weights most like another's.",
        discussion: """
            Two networks that were trained apart may compute much the same with their units in other orders; averages and \
            interpolations make sense only once those agree (Git Re-Basin). MODEL is written with its units rearranged, \
            which leaves its function as it is; REFERENCE stays.

            --network says which units there are: perceptron, a chain of fully connected layers (as many matrices, \
            each with as many inputs as the one before has outputs); llama, with the names of Hugging Face's Llama and \
            its kin (Gemma, Mistral, Mixtral, OLMo, Phi-3, Qwen and others), whose config.json beside the model says how \
            many heads share keys and values, or --heads and --key-heads where there is none; cairn-train, with those of the \
            example trainer, whose optimizer's moments and averages move along. --spec reads it from a file instead \
            (Docs/Merging.md describes it), --save-spec writes such a file. --along rearranges what belongs to the \
            weights as well, such as moments of an optimizer, by what stands before the weights' names. A tensor with an \
            axis as long as one that is rearranged must be named, as rearranged or as fixed: nothing is left behind.

            Examples:
              cairn align a.safetensors b.safetensors --network perceptron -o b-like-a.safetensors
              cairn align runs/a runs/b --network cairn-train -o runs/aligned --to cairn
              cairn align llama-a/ llama-b/ --network llama --save-spec units.json -o c.safetensors
              cairn align a.safetensors b.safetensors --spec units.json --along moments. -o c.safetensors
            """)

    @Argument(help: ArgumentHelp("The network whose order counts.", valueName: "reference"))
    var reference: String

    @Argument(help: ArgumentHelp("The network that is rearranged.", valueName: "model"))
    var model: String

    @Option(help: "Which units there are: perceptron, llama or cairn-train.")
    var network: NetworkKind?

    @Option(help: ArgumentHelp("A file that says which units there are, instead.", valueName: "file"))
    var spec: String?

    @Option(help: ArgumentHelp("Write which units there are to a file that --spec reads.", valueName: "file"))
    var saveSpec: String?

    @Option(help: "How many heads each layer has, for llama and cairn-train where the model does not say.")
    var heads: Int?

    @Option(help: "How many heads of keys and values, for llama where config.json does not say. Default: as many as heads.")
    var keyHeads: Int?

    @Flag(help: "Leave the residual stream in its order, for llama and cairn-train.")
    var keepResidual = false

    @Option(help: ArgumentHelp("Rearrange tensors of this name and the weight's as well; several times.", valueName: "prefix"))
    var along: [String] = []

    @Option(help: "Chooses the order in which layers are visited.")
    var seed: UInt64 = 0

    @OptionGroup var result: MergeOutput

    func validate() throws {
        if (network == nil) == (spec == nil) { throw ValidationError("say --network or --spec, and not both") }
        if network == .llama, heads == nil, !Self.mayBeConfigured([model, reference]) {
            throw ValidationError("--network llama needs --heads, or a config.json beside the model")
        }
        if network == .perceptron || network == nil, heads != nil || keepResidual {
            throw ValidationError("--heads and --keep-residual are for --network llama and cairn-train")
        }
        if network != .llama, keyHeads != nil { throw ValidationError("--key-heads is for --network llama") }
        if result.dtype != nil { throw ValidationError("align keeps the types: convert the result") }
    }

    func run() throws {
        let first = try result.open(reference), second = try result.open(model)
        if let saveSpec, !result.destination.force { try SpecificationFile.checkFree(saveSpec) }
        let spec = try specification(of: second.input.reader, besides: first.input.reader)
        var whole = network == .cairnTrain ? spec.includingState(in: second.input.reader) : spec
        for prefix in along {
            let companions = spec.companions(prefix, in: second.input.reader)
            guard !companions.labels.isEmpty else {
                throw CairnError(
                    .notFound, "no tensor has this prefix and the name of a weight",
                    .init(file: model, found: prefix.debugDescription, advice: "list the names and correct it"))
            }
            whole.merge(companions)
        }
        try whole.requireEveryTensor(in: second.input.reader)
        var random = SearchRandom(seed: seed)
        let matching = try WeightMatching(spec).match(second.input.reader, to: first.input.reader, using: &random)
        let aligned = try PermutedReader(second.input.reader, matching.permutations, by: whole)
        let moved = matching.permutations.orders.values.reduce(0) { sum, order in
            sum + order.enumerated().count { $0.offset != $0.element }
        }
        let units = matching.permutations.orders.values.reduce(0) { $0 + $1.count }
        var parent = second.input.parent
        parent.coefficient = 1
        let lineage = Lineage(
            operation: "alignment", parents: [parent, first.input.parent],
            details: ["network": .string(network?.rawValue ?? self.spec ?? ""), "seed": .unsigned(seed)])
        let before = matching.similarities.first ?? 0, after = matching.similarities.last ?? 0
        try result.write(
            aligned, lineage: lineage,
            notes: [
                "\(moved) of \(units) units moved; similarity \(NumberText.short(before)) to "
                    + NumberText.short(after)
            ] + left(of: whole, in: second.input.reader),
            of: [second, first], schema: "cairn-align/1",
            facts: [
                "units": .count(units), "moved": .count(moved), "similarity_before": .number(before),
                "similarity_after": .number(after), "settled": .bool(matching.isSettled),
            ])
        if let saveSpec { try SpecificationFile.write(spec, to: saveSpec) }
    }

    /// What stays in its order though it may belong to weights that do not.
    private func left(of spec: PermutationSpec, in reader: any CheckpointReader) -> [String] {
        let names = spec.unnamedCompanions(in: reader)
        guard let first = names.first else { return [] }
        return [
            "\(names.count) tensors whose names end with a weight's keep their order, \"\(first)\" among them; "
                + "--along rearranges them with it"
        ]
    }

    private func specification(
        of reader: any CheckpointReader, besides first: any CheckpointReader
    ) throws -> PermutationSpec {
        switch network {
        case nil: try SpecificationFile.read(spec ?? "")
        // What moves along is not part of the network.
        case .perceptron: try .perceptron(of: withoutCompanions(reader))
        case .llama: try llama(withoutCompanions(reader), besides: withoutCompanions(first, mayLack: true))
        case .cairnTrain: try .trainer(of: reader, headCount: heads, includesResidual: !keepResidual)
        }
    }

    /// - Parameter mayLack: Whether nothing of it may be there.
    private func withoutCompanions(
        _ reader: any CheckpointReader, mayLack: Bool = false
    ) throws(CairnError) -> any CheckpointReader {
        var patterns: [String] = []
        for prefix in along where !mayLack || reader.tensors.contains(where: { $0.name.hasPrefix(prefix) }) {
            patterns.append(prefix + "*")
        }
        return patterns.isEmpty ? reader : try SelectedReader(reader, exclude: patterns)
    }

    /// The units by the model's own configuration, or else the reference's; both have to say the same.
    private func llama(
        _ reader: any CheckpointReader, besides first: any CheckpointReader
    ) throws -> PermutationSpec {
        let other = try ModelConfigurationFile.beside(reference)
        guard let configuration = try ModelConfigurationFile.beside(model) ?? other else {
            StandardError.note("no config.json says how many heads there are: \(heads ?? 0) is believed")
            return try .llama(
                of: reader, headCount: heads, keyHeadCount: keyHeads, includesResidual: !keepResidual)
        }
        let spec = try PermutationSpec.llama(
            of: reader, headCount: heads, keyHeadCount: keyHeads, includesResidual: !keepResidual,
            configuration: configuration)
        let known = try PermutationSpec.llama(
            of: first, headCount: heads, keyHeadCount: keyHeads, includesResidual: !keepResidual,
            configuration: other ?? configuration)
        for (name, axes) in known.axes.sorted(by: { $0.key < $1.key }) {
            guard let own = spec.axes[name], own != axes else { continue }
            throw CairnError(
                .mismatch, "the two models share out their heads differently",
                .init(
                    file: other?.file ?? reference, tensor: name, expected: "the heads of \(configuration.file)"))
        }
        return spec
    }

    /// Whether a configuration may say what options do not; what is not there at all is not the options' fault.
    private static func mayBeConfigured(_ models: [String]) -> Bool {
        models.contains { model in
            do {
                return try ModelConfigurationFile.path(beside: model) != nil
            } catch {
                return true
            }
        }
    }
}

/// The networks whose units `cairn align` knows.
enum NetworkKind: String, CaseIterable, ExpressibleByArgument {
    case perceptron, llama
    case cairnTrain = "cairn-train"
}

/// A file that says which units a network has.
enum SpecificationFile {
    static func read(_ path: String) throws(CairnError) -> PermutationSpec {
        let (directory, name) = PathInspection.split(path)
        return try PermutationSpec(json: LocalStorage(root: directory).readAll(name, limit: 64 << 20), file: path)
    }

    /// - Throws: ``CairnError/Code/alreadyExists`` where a file is already.
    static func checkFree(_ path: String) throws(CairnError) {
        guard try PathInspection.kind(of: path) == nil else {
            throw CairnError(
                .alreadyExists, "there is a file already", .init(file: path, advice: "choose another, or say --force"))
        }
    }

    static func write(_ spec: PermutationSpec, to path: String) throws(CairnError) {
        let (directory, name) = PathInspection.split(path)
        try LocalStorage(root: directory).publish(spec.json, as: name)
    }
}
