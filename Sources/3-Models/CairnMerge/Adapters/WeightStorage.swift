import CairnBase
import CairnCheckpoint
import CairnTensor

/// Whether weights are stored as `[inputs, outputs]`, as those of GPT-2's layers are, or as `[outputs, inputs]`.
///
/// PEFT goes by the class of a layer, whatever the configuration says. Here the shapes say it; for square weights the
/// configuration, unless layers beside it or of its name contradict.
struct WeightStorage {
    private let plan: AdapterPlan
    /// What is seen of layers in one module, and of layers of one name.
    private var seen: [ExactString: Set<Bool>] = [:]

    init(_ plan: AdapterPlan, _ pairs: [AdapterTensors.Module]) {
        self.plan = plan
        for tensor in plan.model.tensors where tensor.name.hasSuffix(".weight") && tensor.shape.dimensionCount == 2 {
            let module = String(tensor.name.dropLast(".weight".count))
            guard let bias = plan.tensor(module + ".bias")?.shape, bias.dimensionCount == 1,
                tensor.shape[0] != tensor.shape[1], tensor.shape.extents.contains(bias[0])
            else { continue }
            note(module, isTransposed: bias[0] == tensor.shape[1])
        }
        for pair in pairs where !pair.isEmbedding && !pair.isOfImageTrainers {
            guard let weight = plan.tensor(pair.name + ".weight"), weight.shape.dimensionCount == 2,
                let down = try? plan.reader.description(of: pair.down ?? ""),
                let up = try? plan.reader.description(of: pair.up ?? "")
            else { continue }
            let shape = LowRankShape(weight: weight.shape, down: down.shape, up: up.shape)
            let fits = (plain: shape.fits(isTransposed: false), transposed: shape.fits(isTransposed: true))
            if fits.plain != fits.transposed { note(pair.name, isTransposed: fits.transposed) }
        }
    }

    /// The module that a layer is in, and the layer's own name.
    private static func keys(_ module: String) -> [ExactString] {
        guard let dot = module.lastIndex(of: ".") else { return [ExactString(module)] }
        return [ExactString(String(module[...dot])), ExactString(String(module[module.index(after: dot)...]))]
    }

    private mutating func note(_ module: String, isTransposed: Bool) {
        for key in Self.keys(module) { seen[key, default: []].insert(isTransposed) }
    }

    /// - Throws: ``CairnError/Code/mismatch`` for matrices that do not fit, ``CairnError/Code/unsupported`` where it cannot
    ///   be told.
    func isTransposed(
        _ pair: AdapterTensors.Module, _ shape: LowRankShape, _ weight: TensorDescription
    ) throws(CairnError) -> Bool {
        let fits = (plain: shape.fits(isTransposed: false), transposed: shape.fits(isTransposed: true))
        if pair.isEmbedding, fits.transposed { return true }
        guard !pair.isEmbedding, fits.plain || fits.transposed else {
            throw plan.failure(
                .mismatch, "the matrices of an update do not fit the weight", pair.first,
                expected: "\(weight.name) \(weight.shape)", found: "\(shape.up) times \(shape.down)")
        }
        guard fits.plain && fits.transposed else { return fits.transposed }
        let flag = plan.configuration.isTransposed
        let ways = Self.keys(pair.name).reduce(into: Set<Bool>()) { $0.formUnion(seen[$1] ?? []) }
        if ways == [flag] || ways.isEmpty && !flag { return flag }
        throw plan.failure(
            .unsupported, "it cannot be told whether a square weight is stored as [inputs, outputs]", pair.first,
            expected: ways.isEmpty ? "layers beside it that show it" : "fan_in_fan_out \(!flag), as layers beside it are",
            found: "fan_in_fan_out \(flag) for \(weight.name) \(weight.shape)",
            advice: "set fan_in_fan_out in adapter_config.json as the layer is, true for GPT-2's Conv1D")
    }
}

/// The modules of a model by the names that trainers of image models make of them: `lora_unet_` or the like before it,
/// and all dots as underscores.
struct FlatModuleNames {
    private static let prefixes = [
        "", "lora_", "lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_transformer_", "lora_prior_unet_",
    ]
    private var modules: [String: [String]] = [:]

    init(_ model: (any CheckpointReader)?) {
        for tensor in model?.tensors ?? [] where tensor.name.hasSuffix(".weight") {
            let module = String(tensor.name.dropLast(".weight".count))
            modules[String(module.map { $0 == "." ? "_" : $0 }), default: []].append(module)
        }
    }

    /// - Throws: ``CairnError/Code/notFound`` where there is none, ``CairnError/Code/mismatch`` where there are several.
    func module(of pair: AdapterTensors.Module, _ plan: AdapterPlan) throws(CairnError) -> String {
        if plan.tensor(pair.name + ".weight") != nil { return pair.name }
        var found: Set<String> = []
        for prefix in Self.prefixes where pair.name.hasPrefix(prefix) {
            found.formUnion(modules[String(pair.name.dropFirst(prefix.count))] ?? [])
        }
        guard let module = found.first else { throw plan.lacking(pair.name + ".weight", pair.first) }
        guard found.count == 1 else {
            throw plan.failure(
                .mismatch, "several modules of the model have the name of one of the adapter's", pair.first,
                found: found.sorted().joined(separator: ", "), advice: "rename the adapter's tensors")
        }
        return module
    }
}

/// How the matrices of a low-rank update lie beside the weight.
struct LowRankShape {
    let weight: [Int]
    let down: [Int]
    let up: [Int]
    let stackCount: Int

    init(weight: Shape, down: Shape, up: Shape, stackCount: Int = 1) {
        self.weight = weight.extents
        self.down = down.extents
        self.up = up.extents
        self.stackCount = stackCount
    }

    /// The rank of one product; `nil` where the matrices do not belong to each other.
    var rank: Int? {
        guard down.count >= 2, up.count >= 2, up[1] == down[0], up[2...].allSatisfy({ $0 == 1 }),
            stackCount > 0, down[0] > 0, down[0].isMultiple(of: stackCount)
        else { return nil }
        return down[0] / stackCount
    }

    func fits(isTransposed: Bool) -> Bool {
        guard rank != nil else { return false }
        if weight.count == 3, stackCount == weight[0], down.count == 2, stackCount > 1 || isTransposed {
            return [up[0], down[1]] == (isTransposed ? [weight[2], weight[1]] : [weight[1], weight[2]])
        }
        guard stackCount == 1, weight.count >= 2 else { return false }
        if isTransposed { return weight.count == 2 && down.count == 2 && [down[1], up[0]] == weight }
        return up[0] == weight[0] && Self.withoutOnes(down[1...]) == Self.withoutOnes(weight[1...])
    }

    /// Kernels of 1 by 1 are written with and without these dimensions.
    private static func withoutOnes(_ extents: ArraySlice<Int>) -> [Int] {
        Array(extents.reversed().drop { $0 == 1 }.reversed())
    }
}
