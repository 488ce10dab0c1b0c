public import CairnBase
import CairnCheckpoint
import CairnTensor

/// A low-rank adapter (LoRA, Hu et al., ICLR 2022) as PEFT saves it: pairs of small matrices, what their products are
/// multiplied by, and what else was trained.
public struct LowRankAdapter: Sendable {
    /// The matrices.
    package var input: MergeInput
    package var configuration: Configuration
    /// Whether the model's output layer is one with its embedding, where that is known of it (`tie_word_embeddings`).
    package var isForTiedModel = false

    public init(_ input: MergeInput, configuration: Configuration) {
        self.input = input
        self.configuration = configuration
    }
}

extension MergedCheckpoint {
    /// A model with the updates of adapters added, as PEFT's `merge_and_unload` does it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an adapter of weights that the model lacks, ``CairnError/Code/mismatch`` for
    ///   matrices that do not fit, ``CairnError/Code/incomplete`` for an adapter that lacks something,
    ///   ``CairnError/Code/unsupported`` for what is not such an update.
    public init(
        _ base: MergeInput, adapters: [LowRankAdapter], options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        var plans: [AdapterPlan] = []
        for (index, adapter) in adapters.enumerated() {
            plans.append(try AdapterPlan(adapter, model: base.reader, input: index + 1))
        }
        var recipes: [TensorRecipe] = []
        for tensor in base.reader.tensors {
            let isTied = !plans.contains { $0.separates(tensor) }
            let updates = plans.flatMap { $0.updates(of: tensor) }
            try AdapterPlan.check(updates, of: tensor)
            recipes.append(
                TensorRecipe(
                    name: tensor.name, operands: [.init(input: 0, name: tensor.name)],
                    method: updates.isEmpty ? .passthrough() : .updates, updates: updates,
                    tiedTo: isTied ? tensor.tiedTo : nil))
        }
        for plan in plans {
            for addition in plan.additions {
                recipes.append(
                    TensorRecipe(
                        name: addition.name, operands: [addition.operand], method: .passthrough(),
                        scalarType: options.outputType ?? addition.scalarType))
            }
        }
        let inputs = [base] + adapters.map(\.input)
        try self.init(
            inputs, recipes: recipes, values: base.reader.values,
            lineage: Lineage(operation: "adapter", parents: inputs.map(\.parent)), options: options,
            notes: plans.flatMap(\.notes), isOneModel: true)
    }
}

extension LowRankAdapter {
    /// What `adapter_config.json` says, as far as a merge needs it.
    public struct Configuration: Sendable, Hashable {
        /// A number for the modules whose names, or last parts of them, fit a regular expression of Python's.
        package struct ModuleNumber: Sendable, Hashable {
            package var pattern: String
            package var number: Double

            package init(pattern: String, number: Double) {
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
        package var alpha: Double?
        /// `r`; `nil` for what the matrices have.
        package var rank: Int?
        /// `alpha_pattern`: other values of `alpha`; the first that fits a module counts.
        package var alphaOfModules: [ModuleNumber]
        /// `rank_pattern`: other values of `rank`; the first that fits a module counts.
        package var rankOfModules: [ModuleNumber]
        /// `use_rslora`: the scale is α/√r instead of α/r.
        package var isRankStabilized: Bool
        /// `fan_in_fan_out`: weights are stored as `[inputs, outputs]`. Counts where a weight's shape does not say it.
        package var isTransposed: Bool

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

        package init(
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

/// Which modules an adapter is for, as its configuration says and PEFT's `check_target_module_exists` reads it.
package struct AdapterTargets: Sendable, Hashable {
    /// Modules by their names or last parts, or by a regular expression.
    package enum Selection: Sendable, Hashable {
        case names([String])
        case pattern(String)
    }

    /// `target_modules`; `nil` for what the model's kind suggests.
    package var modules: Selection?
    /// `exclude_modules`
    package var excluded: Selection?
    /// `modules_to_save`, which have no matrices.
    package var saved: [String] = []
    /// `layers_to_transform`; `nil` for all.
    package var layers: [Int]?
    /// `layers_pattern`: what the parts before a layer's number may be; empty for anything.
    package var layerNames: [String] = []
}

/// The same with its patterns read.
struct AdapterTargetMatcher {
    private enum Selection {
        case names([String])
        case pattern(ModulePattern)
        /// What cannot be told.
        case unknown

        init(_ selection: AdapterTargets.Selection?) {
            switch selection {
            case nil: self = .unknown
            case .names(let names)?: self = .names(names)
            // PEFT writes the modules' names; where this was left, it is for all linear ones.
            case .pattern("all-linear")?: self = .unknown
            case .pattern(let text)?: self = (try? ModulePattern(text)).map { .pattern($0) } ?? .unknown
            }
        }

        func contains(_ module: String, _ name: ModuleName) -> Bool? {
            switch self {
            case .unknown: nil
            case .names(let names): names.contains { module == $0 || module.hasSuffix("." + $0) }
            case .pattern(let pattern): pattern.fitsWhole(name)
            }
        }
    }

    private let modules: Selection
    private let excluded: Selection
    private let saved: [ModulePattern]
    private let layers: Set<Int>?
    private let layerNames: [ModulePattern]

    /// Patterns that cannot be followed select nothing that is told by them: the matrices say for what they are.
    init(_ targets: AdapterTargets) {
        modules = Selection(targets.modules)
        excluded = Selection(targets.excluded)
        saved = targets.saved.compactMap { try? ModulePattern($0) }
        layers = targets.layers.map(Set.init)
        layerNames = targets.layerNames.compactMap { try? ModulePattern($0) }
    }

    /// Whether the module, or what it lies in, is saved whole.
    func isSaved(_ module: String) -> Bool {
        let name = ModuleName(module)
        return saved.contains { pattern in
            pattern.fits(name).contains { $0.ends.contains { $0 == name.scalars.count || name.scalars[$0] == "." } }
        }
    }

    /// Whether the adapter is for a module; where that cannot be told, it is.
    func contains(_ module: String) -> Bool {
        let name = ModuleName(module)
        if excluded.contains(module, name) == true || isSaved(module) { return false }
        guard modules.contains(module, name) ?? true else { return false }
        guard let layers, case .names(let names) = modules, !names.contains(module) else { return true }
        return layer(of: name).map { layers.contains($0) } ?? false
    }

    /// The first number of a layer in a name.
    private func layer(of name: ModuleName) -> Int? {
        if layerNames.isEmpty {
            // The part behind the second dot at the earliest, and not the last.
            return name.begins.dropFirst(2).lazy.compactMap { Self.number(in: name.scalars, at: $0) }.first
        }
        for pattern in layerNames {
            for (_, ends) in pattern.fits(name) {
                for end in ends.reversed() where end < name.scalars.count && name.scalars[end] == "." {
                    if let number = Self.number(in: name.scalars, at: end + 1) { return number }
                }
            }
        }
        return nil
    }

    /// The number that begins there and ends with a dot.
    private static func number(in scalars: [Unicode.Scalar], at begin: Int) -> Int? {
        let digits = scalars[begin...].prefix { ("0"..."9").contains($0) }
        guard !digits.isEmpty, digits.endIndex < scalars.count, scalars[digits.endIndex] == "." else { return nil }
        return Int(String(String.UnicodeScalarView(digits)))
    }
}
