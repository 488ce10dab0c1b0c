import CairnBase

/// Reads the members of `adapter_config.json`, each of which is understood, known to change nothing, or refused by name.
struct AdapterConfigurationReader {
    private let object: JSONObject

    /// What only tells where the adapter comes from, or counts in training alone.
    ///
    /// `ensure_weight_tying` shows in the tensors; the settings of ways to begin count where such a way is chosen.
    private static let harmless: Set<String> = [
        "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
        "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying", "loftq_config",
        "eva_config", "corda_config", "lora_ga_config",
    ]
    private static let understood: Set<String> = [
        "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out", "bias",
        "modules_to_save", "init_lora_weights", "trainable_token_indices", "use_dora", "lora_bias", "target_modules",
        "exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters",
    ]
    /// What makes more or something else of an adapter than products of matrices.
    private static let others = [
        "use_qalora": "pools inputs before the product (QA-LoRA)",
        "layer_replication": "repeats layers of the model",
        "megatron_config": "belongs to layers that Megatron divides among ranks",
        "alora_invocation_tokens": "works on some tokens only (activated LoRA), so that nothing can be merged",
        "velora_config": "has more tensors than a pair of matrices (VeLoRA)",
        "monteclora_config": "draws its matrices at random (MonteCLoRA)",
        "use_bdlora": "has block-diagonal matrices (BD-LoRA)",
        "arrow_config": "chooses among adapters by the input (Arrow), so that nothing can be merged",
        "kasa_config": "changes the model's weights before training (KaSA)",
    ]
    private static let otherTypes = [
        "ADALORA": "AdaLoRA", "IA3": "(IA)³", "PREFIX_TUNING": "prefix tuning", "PROMPT_TUNING": "prompt tuning",
        "MULTITASK_PROMPT_TUNING": "multitask prompt tuning", "P_TUNING": "p-tuning", "LOHA": "LoHa", "LOKR": "LoKr",
        "VERA": "VeRA", "OFT": "OFT", "BOFT": "BOFT", "ADAPTION_PROMPT": "an adaption prompt", "LN_TUNING": "tuning of norms",
        "TRAINABLE_TOKENS": "trainable tokens alone", "XLORA": "X-LoRA", "RANDLORA": "RandLora", "VBLORA": "VB-LoRA",
    ]

    init(_ object: JSONObject) {
        self.object = object
    }

    /// - Throws: ``CairnError/Code/unsupported``, ``CairnError/Code/malformed``.
    func checkMembers() throws(CairnError) {
        switch object["peft_type"] {
        case nil, .string("LORA")?: break
        case .string(let type)?:
            let name = Self.otherTypes[type] ?? "of the type \(type)"
            throw CairnError(
                .unsupported, "only LoRA adapters are merged; this one is \(name)",
                .init(found: "peft_type \(type)", advice: "merge it with PEFT's merge_and_unload"))
        default: throw malformed("peft_type", "a name")
        }
        for member in object.members
        where !Self.harmless.contains(member.key) && !Self.understood.contains(member.key) && !Self.isOff(member.value) {
            if let what = Self.others[member.key] {
                throw CairnError(
                    .unsupported, "the adapter \(what)",
                    .init(found: member.key, advice: "merge it with PEFT's merge_and_unload, if that can"))
            }
            throw CairnError(
                .unsupported, "the adapter's configuration has a member that is not understood",
                .init(
                    found: member.key, advice: "merge it with PEFT, or take the member out if it changes no weight"))
        }
    }

    /// Whether a member says that what it is for is not used.
    private static func isOff(_ value: JSONValue) -> Bool {
        switch value {
        case .null, .bool(false): true
        case .string(let text): text.isEmpty
        case .array(let list): list.isEmpty
        case .object(let inner): inner.members.isEmpty
        default: false
        }
    }

    private func malformed(_ key: String, _ expected: String) -> CairnError {
        CairnError(.malformed, "\(key) is not valid", .init(expected: expected))
    }

    func flag(_ key: String) throws(CairnError) -> Bool {
        switch object[key] {
        case nil, .null?: return false
        case .bool(let value)?: return value
        default: throw malformed(key, "true or false")
        }
    }

    /// A finite number.
    func number(_ key: String) throws(CairnError) -> Double? {
        guard let value = object[key], value != .null else { return nil }
        return try number(value, key)
    }

    private func number(_ value: JSONValue, _ key: String) throws(CairnError) -> Double {
        guard let number = try? value.asDouble(), number.isFinite else { throw malformed(key, "a number") }
        return number
    }

    func rank() throws(CairnError) -> Int? {
        guard let value = object["r"], value != .null else { return nil }
        guard let rank = try? value.asInteger(), rank > 0 else { throw malformed("r", "a positive integer") }
        return rank
    }

    /// Patterns and their numbers, in their order. Each is read once to know that it can be.
    func moduleNumbers(_ key: String, areRanks: Bool) throws(CairnError) -> [LowRankAdapter.Configuration.ModuleNumber] {
        guard let value = object[key], value != .null else { return [] }
        guard case .object(let patterns) = value else { throw malformed(key, "an object of patterns and numbers") }
        var numbers: [LowRankAdapter.Configuration.ModuleNumber] = []
        for member in patterns.members {
            let number = try number(member.value, "\(key) of \(member.key)")
            if areRanks, number < 1 || number > 0x1p31 || number.rounded() != number {
                throw malformed("\(key) of \(member.key)", "a positive integer")
            }
            numbers.append(.init(pattern: member.key, number: number))
        }
        do {
            _ = try ModuleNumbers(numbers)
        } catch {
            throw error.adding(.init(expected: "a pattern of modules in \(key)"))
        }
        return numbers
    }

    /// A list of names, or one name as a list of one.
    func names(_ key: String) throws(CairnError) -> [String] {
        switch object[key] {
        case nil, .null?: return []
        case .string(let name)?: return [name]
        case .array(let list)?:
            var names: [String] = []
            for element in list {
                guard case .string(let name) = element else { throw malformed(key, "a list of names") }
                names.append(name)
            }
            return names
        default: throw malformed(key, "a list of names")
        }
    }

    /// Names of modules, or a regular expression.
    func selection(_ key: String) throws(CairnError) -> AdapterTargets.Selection? {
        switch object[key] {
        case nil, .null?: return nil
        case .string(let pattern)?: return pattern.isEmpty ? nil : .pattern(pattern)
        default: return .names(try names(key))
        }
    }

    private func integers(_ value: JSONValue, _ key: String) throws(CairnError) -> [Int] {
        guard case .array(let list) = value else { throw malformed(key, "a list of numbers") }
        var integers: [Int] = []
        for element in list {
            guard let integer = try? element.asInteger(), integer >= 0 else {
                throw malformed(key, "numbers that are not negative")
            }
            integers.append(integer)
        }
        return integers
    }

    func layers() throws(CairnError) -> [Int]? {
        let key = "layers_to_transform"
        guard let value = object[key], value != .null else { return nil }
        if case .integer = value { return try integers(.array([value]), key) }
        let layers = try integers(value, key)
        return layers.isEmpty ? nil : layers
    }

    func tokens() throws(CairnError) -> [LowRankAdapter.Configuration.TokenRows] {
        let key = "trainable_token_indices"
        switch object[key] {
        case nil, .null?: return []
        case .object(let modules)?:
            var tokens: [LowRankAdapter.Configuration.TokenRows] = []
            for member in modules.members {
                tokens.append(.init(module: member.key, indices: try integers(member.value, key)))
            }
            return tokens
        case let value?: return [.init(module: nil, indices: try integers(value, key))]
        }
    }

    func trainedBiases() throws(CairnError) -> LowRankAdapter.Configuration.TrainedBiases {
        switch object["bias"] {
        case nil, .null?: return .none
        case .string(let name)?:
            guard let biases = LowRankAdapter.Configuration.TrainedBiases(rawValue: name) else {
                throw malformed("bias \"\(name)\"", "none, all or lora_only")
            }
            return biases
        default: throw malformed("bias", "none, all or lora_only")
        }
    }

    /// Whether products are rounded before they are added, which one way to begin brings along.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for ways that change the model's weights before training: the matrices are
    ///   for the changed ones.
    func roundsProducts() throws(CairnError) -> Bool {
        switch object["init_lora_weights"] {
        case nil, .null?, .bool?: return false
        case .string(let name)?:
            switch name.lowercased() {
            case "gaussian", "orthogonal", "eva": return false
            case "mica": return true
            default:
                throw CairnError(
                    .unsupported, "the adapter's way to begin may change the model's weights before training",
                    .init(
                        expected: "init_lora_weights true, false, gaussian, orthogonal, eva or mica",
                        found: "init_lora_weights \(name)",
                        advice: "let PEFT make a plain adapter of it: save_pretrained with "
                            + "path_initial_model_for_weight_conversion"))
            }
        default: throw malformed("init_lora_weights", "true, false or a name")
        }
    }
}

extension LowRankAdapter.Configuration {
    init(_ reader: AdapterConfigurationReader) throws(CairnError) {
        try reader.checkMembers()
        let rounds = try reader.roundsProducts()
        guard let alpha = try reader.number("lora_alpha") else {
            throw CairnError(.malformed, "the adapter does not say its lora_alpha")
        }
        self.init(
            alpha: alpha, rank: try reader.rank(),
            alphaOfModules: try reader.moduleNumbers("alpha_pattern", areRanks: false),
            rankOfModules: try reader.moduleNumbers("rank_pattern", areRanks: true),
            isRankStabilized: try reader.flag("use_rslora"), isTransposed: try reader.flag("fan_in_fan_out"))
        roundsProducts = rounds
        hasMagnitudes = try reader.flag("use_dora")
        hasProductBiases = try reader.flag("lora_bias")
        trainedBiases = try reader.trainedBiases()
        savedModules = try reader.names("modules_to_save")
        tokens = try reader.tokens()
        targets = AdapterTargets(
            modules: try reader.selection("target_modules"), excluded: try reader.selection("exclude_modules"),
            saved: savedModules, layers: try reader.layers(), layerNames: try reader.names("layers_pattern"))
        targetParameters = try reader.names("target_parameters")
    }
}
