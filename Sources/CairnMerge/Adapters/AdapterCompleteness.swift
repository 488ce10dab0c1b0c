import CairnBase
import CairnCheckpoint
import CairnTensor

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
            let names = module.isOfImageTrainers
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
            let isOneWithAnother = plan.configuration.tokens.contains { $0.indices == entry.indices && hasRows($0) }
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
            wanted = plan.model.tensors.first {
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
