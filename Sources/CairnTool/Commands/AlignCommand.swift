import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge
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
            each with as many inputs as the one before has outputs); llama, with the names of Hugging Face's Llama, \
            for which --heads and --key-heads say how heads share keys and values; cairn-train, with those of the \
            example trainer, whose optimizer's moments and averages move along. --spec reads it from a file instead \
            (Docs/Merging.md describes it), --save-spec writes such a file. --along rearranges what belongs to the \
            weights as well, such as moments of an optimizer, by what stands before the weights' names.

            Examples:
              cairn align a.safetensors b.safetensors --network perceptron -o b-like-a.safetensors
              cairn align runs/a runs/b --network cairn-train -o runs/aligned --to cairn
              cairn align a.safetensors b.safetensors --network llama --heads 16 --save-spec units.json -o c.safetensors
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

    @Option(help: "How many heads each layer has, for llama; for cairn-train where the checkpoint does not say.")
    var heads: Int?

    @Option(help: "How many heads of keys and values, for llama. Default: as many as heads.")
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
        if network == .llama, heads == nil { throw ValidationError("--network llama needs --heads") }
        if network == .perceptron || network == nil, heads != nil || keepResidual {
            throw ValidationError("--heads and --keep-residual are for --network llama and cairn-train")
        }
        if network != .llama, keyHeads != nil { throw ValidationError("--key-heads is for --network llama") }
        if result.dtype != nil { throw ValidationError("align keeps the types: convert the result") }
    }

    func run() throws {
        let first = try result.open(reference), second = try result.open(model)
        if let saveSpec, !result.force { try SpecificationFile.checkFree(saveSpec) }
        let spec = try specification(of: second.input.reader)
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

    private func specification(of reader: any CheckpointReader) throws(CairnError) -> PermutationSpec {
        switch network {
        case nil: try SpecificationFile.read(spec ?? "")
        case .perceptron:
            // What moves along is no part of the chain.
            try .perceptron(of: along.isEmpty ? reader : SelectedReader(reader, exclude: along.map { $0 + "*" }))
        case .llama:
            try .llama(
                of: reader, headCount: heads ?? 1, keyHeadCount: keyHeads, includesResidual: !keepResidual)
        case .cairnTrain: try .trainer(of: reader, headCount: heads, includesResidual: !keepResidual)
        }
    }
}

/// The networks whose units `cairn align` knows.
enum NetworkKind: String, CaseIterable, ExpressibleByArgument {
    case perceptron, llama
    case cairnTrain = "cairn-train"
}
