public import CairnBase

extension LowRankAdapter {
    /// What `adapter_config.json` says, as far as a merge needs it.
    public struct Configuration: Sendable, Hashable {
        /// A number for the modules whose names, or last parts of them, fit a regular expression of Python's.
        public struct ModuleNumber: Sendable, Hashable {
            public var pattern: String
            public var number: Double

            public init(pattern: String, number: Double) {
                self.pattern = pattern
                self.number = number
            }
        }

        /// Rows of an embedding that were trained.
        package struct TokenRows: Sendable, Hashable {
            /// The embedding's name or its last parts.
            package var module: String?
            package var indices: [Int]
        }

        /// Which biases were trained.
        package enum TrainedBiases: String, Sendable, Hashable {
            case none, all
            case ofTargets = "lora_only"
        }

        /// `lora_alpha`; `nil` where each module has its own beside its matrices.
        public var alpha: Double?
        /// `r`; `nil` for what the matrices have.
        public var rank: Int?
        /// `alpha_pattern`: other values of `alpha`; the first that fits a module counts.
        public var alphaOfModules: [ModuleNumber]
        /// `rank_pattern`: other values of `rank`; the first that fits a module counts.
        public var rankOfModules: [ModuleNumber]
        /// `use_rslora`: the scale is α/√r instead of α/r.
        public var isRankStabilized: Bool
        /// `fan_in_fan_out`: weights are stored as `[inputs, outputs]`. Counts where a weight's shape does not say it.
        public var isTransposed: Bool

        /// `use_dora`: each module has lengths of its weight's rows.
        package var hasMagnitudes = false
        /// `lora_bias`: products have biases.
        package var hasProductBiases = false
        /// `init_lora_weights: mica`: PEFT rounds products to the weights' type before it adds them.
        package var roundsProducts = false
        /// `bias`
        package var trainedBiases = TrainedBiases.none
        /// `modules_to_save`
        package var savedModules: [String] = []
        /// `trainable_token_indices`; without a name those of the embedding.
        package var tokens: [TokenRows] = []
        /// `target_modules`, `exclude_modules`, `layers_to_transform`, `layers_pattern`
        package var targets = AdapterTargets()
        /// `target_parameters`
        package var targetParameters: [String] = []

        public init(
            alpha: Double?, rank: Int? = nil, alphaOfModules: [ModuleNumber] = [], rankOfModules: [ModuleNumber] = [],
            isRankStabilized: Bool = false, isTransposed: Bool = false
        ) {
            self.alpha = alpha
            self.rank = rank
            self.alphaOfModules = alphaOfModules
            self.rankOfModules = rankOfModules
            self.isRankStabilized = isRankStabilized
            self.isTransposed = isTransposed
        }

        /// Reads `adapter_config.json`.
        ///
        /// - Throws: ``CairnError/Code/malformed`` for what is not a configuration, ``CairnError/Code/unsupported`` for
        ///   everything in it that is not understood, unless it is known to change nothing.
        public init(json: String, file: String? = nil) throws(CairnError) {
            do {
                try self.init(AdapterConfigurationReader(JSONValue(parsing: json).asObject()))
            } catch let error as CairnError {
                throw error.adding(.init(file: file))
            } catch {
                throw CairnError(.malformed, "it is not a configuration of an adapter", .init(file: file), cause: error)
            }
        }
    }
}

/// The numbers of modules, their patterns read.
struct ModuleNumbers {
    private let entries: [(pattern: ModulePattern, number: Double)]

    /// - Throws: ``CairnError/Code/malformed`` or ``CairnError/Code/unsupported`` for a pattern.
    init(_ numbers: [LowRankAdapter.Configuration.ModuleNumber]) throws(CairnError) {
        var entries: [(pattern: ModulePattern, number: Double)] = []
        for entry in numbers { entries.append((try ModulePattern(entry.pattern), entry.number)) }
        self.entries = entries
    }

    /// The number of the first pattern that fits, as PEFT's `get_pattern_key` looks for it; or of that which is the name.
    func number(of module: String) -> Double? {
        if entries.isEmpty { return nil }
        let name = ModuleName(module)
        let fitting = entries.first { $0.pattern.fitsEnd(name) } ?? entries.first { $0.pattern.text == module }
        return fitting?.number
    }
}
