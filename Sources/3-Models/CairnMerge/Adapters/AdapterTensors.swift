import CairnBase
import CairnCheckpoint
import CairnTensor

/// The tensors of an adapter by the modules that they are for.
struct AdapterTensors {
    /// What belongs to one module, each by its name in the adapter.
    struct Module {
        let name: String
        var down: String?
        var up: String?
        /// Whether the matrices are those of an embedding.
        var isEmbedding = false
        /// Whether they have the names that trainers of image models write: `lora_down`, `lora_up`.
        var isOfImageTrainers = false
        /// The bias of the second matrix.
        var upBias: String?
        /// DoRA's lengths.
        var magnitude: String?
        /// The module's own scale.
        var alpha: String?
        /// Rows of the weight that were trained.
        var tokens: String?
        /// Any of its tensors, for messages.
        let first: String
    }

    /// A tensor that is a model's, whole.
    struct Whole {
        /// Its name in the adapter.
        let tensor: String
        let module: String
        let parameter: String

        var name: String { module.isEmpty ? parameter : module + "." + parameter }
    }

    static let prefix = "base_model.model."

    private(set) var modules: [Module] = []
    private(set) var wholes: [Whole] = []

    private enum ModuleTensor {
        case down, up, upBias, magnitude, tokens, alpha
    }

    /// - Throws: ``CairnError/Code/malformed`` for two tensors that are the same of a module.
    init(_ reader: any CheckpointReader) throws(CairnError) {
        var positions: [ExactString: Int] = [:]
        let names = reader.tensors.map(\.name)
        let known = Set(names.map { ExactString($0) })
        for tensor in names {
            let name = tensor.hasPrefix(Self.prefix) ? String(tensor.dropFirst(Self.prefix.count)) : tensor
            let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard let found = Self.part(parts, of: tensor, known) else {
                wholes.append(
                    Whole(
                        tensor: tensor, module: parts.dropLast().joined(separator: "."), parameter: parts.last ?? ""))
                continue
            }
            let module = parts[..<found.moduleCount].joined(separator: ".")
            let key = ExactString(module)
            let position = positions[key] ?? modules.count
            if position == modules.count {
                positions[key] = position
                modules.append(Module(name: module, first: tensor))
            }
            modules[position].isEmbedding = modules[position].isEmbedding || found.isEmbedding
            modules[position].isOfImageTrainers = modules[position].isOfImageTrainers || found.isOfImageTrainers
            let place: WritableKeyPath<Module, String?> =
                switch found.part {
                case .down: \.down
                case .up: \.up
                case .upBias: \.upBias
                case .magnitude: \.magnitude
                case .tokens: \.tokens
                case .alpha: \.alpha
                }
            if let other = modules[position][keyPath: place] {
                throw CairnError(
                    .malformed, "two tensors of the adapter are the same of one module",
                    .init(file: reader.source, tensor: tensor, found: "\(other) as well"))
            }
            modules[position][keyPath: place] = tensor
        }
    }

    /// The module that a whole tensor is of; `nil` for one that PEFT would not find its place for.
    ///
    /// What is saved beside matrices or rows is the model's own, as it was when the adapter was saved, with a part of the
    /// name that says so.
    func owner(of whole: Whole) -> String? {
        func has(_ module: String, _ part: KeyPath<Module, String?>) -> Bool {
            modules.contains { $0.name == module && $0[keyPath: part] != nil }
        }
        let base = ".base_layer"
        guard whole.module.hasSuffix(base) else {
            return has(whole.module, \.down) || has(whole.module, \.tokens) ? nil : whole.module
        }
        let rows = ".token_adapter" + base
        if whole.module.hasSuffix(rows) {
            let module = String(whole.module.dropLast(rows.count))
            return has(module, \.tokens) ? module : nil
        }
        var module = whole.module
        while module.hasSuffix(base) { module.removeLast(base.count) }
        return has(module, \.down) ? module : nil
    }

    /// Which part of a module a name ends with, behind how many parts of the module's name; `nil` for another tensor.
    private static func part(
        _ parts: [String], of tensor: String, _ known: Set<ExactString>
    ) -> (part: ModuleTensor, moduleCount: Int, isEmbedding: Bool, isOfImageTrainers: Bool)? {
        if parts.last == "alpha" {
            let isScale = known.contains(ExactString(String(tensor.dropLast("alpha".count)) + "lora_down.weight"))
            return isScale ? (.alpha, parts.count - 1, false, true) : nil
        }
        for back in 1...3 where parts.count > back {
            let position = parts.count - back
            let rest = Array(parts[(position + 1)...])
            let isWeight = rest.isEmpty || rest == ["weight"] || rest == ["default"] || rest == ["default", "weight"]
            switch parts[position] {
            case "lora_A" where isWeight: return (.down, position, false, false)
            case "lora_B" where isWeight: return (.up, position, false, false)
            case "lora_B" where rest == ["bias"] || rest == ["default", "bias"]: return (.upBias, position, false, false)
            case "lora_embedding_A" where isWeight: return (.down, position, true, false)
            case "lora_embedding_B" where isWeight: return (.up, position, true, false)
            case "lora_magnitude_vector" where isWeight: return (.magnitude, position, false, false)
            case "lora_down" where rest == ["weight"]: return (.down, position, false, true)
            case "lora_up" where rest == ["weight"]: return (.up, position, false, true)
            case "trainable_tokens_delta"
            where (rest.isEmpty || rest == ["default"]) && position > 0 && parts[position - 1] == "token_adapter":
                return (.tokens, position - 1, false, false)
            default: continue
            }
        }
        return nil
    }
}

/// Whether an adapter has what its configuration says, and nothing that it does not say.
struct AdapterCompleteness {
    private let tensors: AdapterTensors
    private let plan: AdapterPlan

    init(_ tensors: AdapterTensors, _ plan: AdapterPlan) {
        self.tensors = tensors
        self.plan = plan
    }

    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/unsupported`` for what is too much.
    func check() throws(CairnError) {
        for module in tensors.modules { try check(module) }
        try checkTokens()
        try checkSavedModules()
        try checkBiases()
    }

    private func check(_ module: AdapterTensors.Module) throws(CairnError) {
        let configuration = plan.configuration
        if module.tokens != nil, module.down == nil, module.up == nil, module.magnitude == nil { return }
        if module.down == nil || module.up == nil {
            let names =
                module.isOfImageTrainers
                ? ("lora_down", "lora_up")
                : module.isEmbedding ? ("lora_embedding_A", "lora_embedding_B") : ("lora_A", "lora_B")
            throw plan.failure(
                .incomplete, "a matrix of the adapter lacks its other", module.down ?? module.up ?? module.first,
                expected: "\(module.down == nil ? names.0 : names.1) of \(module.name)",
                advice: "save the adapter again; PEFT would take zeros for it")
        }
        if configuration.hasMagnitudes, module.magnitude == nil {
            throw plan.failure(
                .incomplete, "the adapter lacks the lengths of a weight (DoRA)", module.first,
                expected: "lora_magnitude_vector of \(module.name)")
        }
        if let magnitude = module.magnitude, !configuration.hasMagnitudes {
            throw plan.failure(
                .unsupported, "the adapter has lengths of a weight (DoRA) that its configuration does not say", magnitude,
                expected: "use_dora true")
        }
        if configuration.hasProductBiases, module.upBias == nil {
            throw plan.failure(
                .incomplete, "the adapter lacks the bias of a matrix", module.first,
                expected: "lora_B.bias of \(module.name)")
        }
        if let bias = module.upBias, !configuration.hasProductBiases {
            throw plan.failure(
                .unsupported, "the adapter has the bias of a matrix that its configuration does not say", bias,
                expected: "lora_bias true")
        }
    }

    private func checkTokens() throws(CairnError) {
        let modules = tensors.modules.filter { $0.tokens != nil }.map(\.name)
        func hasRows(_ entry: LowRankAdapter.Configuration.TokenRows) -> Bool {
            guard let name = entry.module else { return !modules.isEmpty }
            return modules.contains { $0 == name || $0.hasSuffix("." + name) }
        }
        for entry in plan.configuration.tokens where !hasRows(entry) {
            let name = entry.module ?? "the embedding"
            // PEFT saves the rows of tied layers once.
            let isOneWithAnother =
                plan.configuration.tokens.contains { $0.indices == entry.indices && hasRows($0) }
                && !plan.model.tensors.contains {
                    $0.tiedTo == nil && ($0.name == name + ".weight" || $0.name.hasSuffix("." + name + ".weight"))
                }
            guard !isOneWithAnother else { continue }
            throw CairnError(
                .incomplete, "the adapter lacks the rows of an embedding that its configuration says",
                .init(
                    file: plan.reader.source, expected: "token_adapter.trainable_tokens_delta of \(name)",
                    advice: "save the adapter again, or take trainable_token_indices out of its configuration"))
        }
    }

    private func checkSavedModules() throws(CairnError) {
        guard !plan.configuration.savedModules.isEmpty else { return }
        func missing(_ name: String) -> CairnError {
            CairnError(
                .incomplete, "the adapter lacks a module that its configuration says to be saved whole",
                .init(
                    file: plan.reader.source, expected: "tensors of \(name)",
                    advice: "save the adapter again, or take it out of modules_to_save"))
        }
        var hasAny = false
        for name in plan.configuration.savedModules {
            let matcher = AdapterTargetMatcher(AdapterTargets(saved: [name]))
            if tensors.wholes.contains(where: { matcher.isSaved($0.module) || $0.module.hasSuffix(name) }) {
                hasAny = true
                continue
            }
            let isOfModel = plan.model.tensors.contains { tensor in
                let module = tensor.name.lastIndex(of: ".").map { String(tensor.name[..<$0]) } ?? ""
                return tensor.tiedTo == nil && matcher.isSaved(module)
            }
            if isOfModel { throw missing(name) }
        }
        if !hasAny { throw missing(plan.configuration.savedModules.joined(separator: ", ")) }
    }

    private func checkBiases() throws(CairnError) {
        let biases = Set(tensors.wholes.filter { $0.parameter == "bias" }.map { ExactString(withoutBase($0.module)) })
        let wanted: String?
        switch plan.configuration.trainedBiases {
        case .none: return
        case .all:
            // Masks of old models are called so too, but have more dimensions.
            wanted =
                plan.model.tensors.first {
                    $0.name.hasSuffix(".bias") && $0.shape.dimensionCount == 1
                        && !biases.contains(ExactString(String($0.name.dropLast(".bias".count))))
                }?.name
        case .ofTargets:
            wanted = tensors.modules.map(\.name).first {
                plan.tensor($0 + ".bias") != nil && !biases.contains(ExactString($0))
            }.map { $0 + ".bias" }
        }
        guard let wanted else { return }
        throw CairnError(
            .incomplete, "the adapter lacks a bias that its configuration says to have been trained",
            .init(
                file: plan.reader.source, expected: wanted,
                advice: "save the adapter again; bias none in its configuration merges it without"))
    }

    private func withoutBase(_ module: String) -> String {
        var module = module
        while module.hasSuffix(".base_layer") { module.removeLast(".base_layer".count) }
        return module
    }
}
