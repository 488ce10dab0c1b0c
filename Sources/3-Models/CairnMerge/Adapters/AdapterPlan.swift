import CairnBase
import CairnCheckpoint
import CairnTensor

/// What an adapter does to each tensor of a model.
struct AdapterPlan {
    let adapter: LowRankAdapter
    let model: any CheckpointReader
    /// The adapter's position among the inputs of the merge.
    let input: Int
    let targets: AdapterTargetMatcher

    /// By the tensors that hold the bytes, for all that are one with them.
    private var shared: [ExactString: [TensorUpdate]] = [:]
    /// What replaces a tensor alone, and not those that are one with it.
    private var own: [ExactString: TensorUpdate] = [:]
    /// Tensors that hold bytes of others, which they no longer do.
    private var separated: Set<ExactString> = []
    /// Which module of the adapter a tensor's matrices are of.
    private var owners: [ExactString: String] = [:]
    /// Tensors of the adapter that the model lacks, with their names and types in the result.
    private(set) var additions: [(name: String, operand: TensorRecipe.Operand, scalarType: ScalarType)] = []
    /// What did not go without saying, a sentence each.
    private(set) var notes: [String] = []

    /// - Throws: ``CairnError``, naming the tensor of the adapter that does not fit.
    init(_ adapter: LowRankAdapter, model: any CheckpointReader, input: Int) throws(CairnError) {
        self.adapter = adapter
        self.model = model
        self.input = input
        targets = AdapterTargetMatcher(adapter.configuration.targets)
        let tensors = try AdapterTensors(reader)
        guard !tensors.modules.isEmpty || !tensors.wholes.isEmpty else {
            throw CairnError(.incomplete, "the adapter has no tensors", .init(file: reader.source))
        }
        try AdapterCompleteness(tensors, self).check()
        for whole in tensors.wholes { try add(whole, tensors) }
        let placement = try AdapterPlacement(tensors, self)
        for product in placement.products { try add(product) }
        for module in tensors.modules where module.tokens != nil { try addTokens(of: module) }
        try checkTies()
    }

    var reader: any CheckpointReader { adapter.input.reader }
    var configuration: LowRankAdapter.Configuration { adapter.configuration }

    /// Whether a tensor is no longer one with others.
    func separates(_ tensor: TensorDescription) -> Bool {
        separated.contains(ExactString(tensor.tiedTo ?? tensor.name))
    }

    /// What becomes of a tensor.
    func updates(of tensor: TensorDescription) -> [TensorUpdate] {
        if let update = own[ExactString(tensor.name)] { return [update] }
        return shared[ExactString(tensor.tiedTo ?? tensor.name)] ?? []
    }

    /// - Throws: ``CairnError/Code/unsupported`` for updates of several adapters that would have to be told apart.
    static func check(_ updates: [TensorUpdate], of tensor: TensorDescription) throws(CairnError) {
        var products = 0
        var hasLengths = false
        for case .product(let product) in updates {
            products += 1
            hasLengths = hasLengths || product.magnitude != nil
        }
        guard products > 1, hasLengths else { return }
        throw CairnError(
            .unsupported, "several adapters change a weight, one of them its lengths (DoRA)", .init(tensor: tensor.name))
    }

    /// The tensor of the model; `nil` where it has none of that name.
    func tensor(_ name: String) -> TensorDescription? {
        model.tensors.position(of: name).map { model.tensors[$0] }
    }

    func operand(_ name: String) -> TensorRecipe.Operand { .init(input: input, name: name) }

    /// An error about a tensor of the adapter.
    func failure(
        _ code: CairnError.Code, _ message: String, _ tensor: String, expected: String? = nil, found: String? = nil,
        advice: String? = nil
    ) -> CairnError {
        CairnError(
            code, message,
            .init(file: reader.source, tensor: tensor, expected: expected, found: found, advice: advice))
    }

    /// An error about a tensor for one that the model lacks.
    func lacking(_ name: String, _ tensor: String) -> CairnError {
        let similar = model.tensors.map(\.name).filter { $0.hasSuffix("." + name) || name.hasSuffix("." + $0) }
        let advice =
            if similar.isEmpty {
                "a layer that is one with another (tied) is stored once: merge such an adapter with PEFT"
            } else if similar.count == 1 {
                "the model has \(similar[0]); rename the adapter's tensors if they are for that"
            } else {
                "the model has \(similar.count) that end alike, as \(similar[0]) and \(similar[1]): rename the adapter's tensors"
            }
        return failure(
            .notFound, "the adapter is for a tensor that the model lacks", tensor, expected: name + " in \(model.source)",
            advice: advice)
    }

    // MARK: Tensors that are saved whole

    private mutating func add(_ whole: AdapterTensors.Whole, _ tensors: AdapterTensors) throws(CairnError) {
        if isCopy(whole, tensors) { return }
        let module = tensors.owner(of: whole)
        guard let module else { throw stranger(whole) }
        let name = module.isEmpty ? whole.parameter : module + "." + whole.parameter
        let isSaved = isSaved(module)
        let description = try reader.description(of: whole.tensor)
        guard let found = tensor(name) else {
            guard isSaved else { throw module == whole.module ? stranger(whole) : lacking(name, whole.tensor) }
            additions.append((name, operand(whole.tensor), typeOfModel(description.scalarType)))
            notes.append("\(name) is the adapter's; the model has none")
            return
        }
        guard description.shape == found.shape else {
            throw failure(
                .mismatch, "the adapter has a tensor of another shape than the model", whole.tensor,
                expected: "\(found.shape)", found: "\(description.shape)",
                advice: "if the model's vocabulary was changed for the training, change it in the model first")
        }
        let update = TensorUpdate.replacement(operand(whole.tensor))
        if isSaved {
            own[ExactString(name)] = update
            separated.insert(ExactString(found.tiedTo ?? found.name))
        } else {
            shared[ExactString(found.tiedTo ?? found.name), default: []].append(update)
        }
    }

    /// Whether a module, or what it lies in, was trained whole.
    private func isSaved(_ module: String) -> Bool {
        targets.isSaved(module) || configuration.savedModules.contains { module.hasSuffix($0) }
    }

    /// With all biases PEFT saves those of modules that are trained whole once more, and those that they replace.
    private func isCopy(_ whole: AdapterTensors.Whole, _ tensors: AdapterTensors) -> Bool {
        for wrapper in [".modules_to_save", ".original_module"] where whole.module.hasSuffix(wrapper) {
            let module = String(whole.module.dropLast(wrapper.count))
            return isSaved(module)
                && tensors.wholes.contains { $0.module == module && $0.parameter == whole.parameter }
        }
        return false
    }

    /// The type of the model's floating-point tensors, if all have one and the type of a new one is such.
    private func typeOfModel(_ type: ScalarType) -> ScalarType {
        let types = Set(model.tensors.map(\.scalarType).filter(\.hasAverage))
        return type.hasAverage && types.count == 1 ? types.first ?? type : type
    }

    private func stranger(_ whole: AdapterTensors.Whole) -> CairnError {
        failure(
            .unsupported, "a tensor of the adapter is neither a matrix of an update nor a tensor of the model", whole.tensor,
            advice: "PEFT would pass it over; take it out if that is right")
    }

    // MARK: Products

    private mutating func add(_ product: AdapterPlacement.Product) throws(CairnError) {
        guard let found = tensor(product.weight) else { throw lacking(product.weight, product.module.first) }
        let stored = ExactString(found.tiedTo ?? found.name)
        if let other = owners[stored] {
            throw failure(
                .unsupported, "two modules of the adapter change one tensor of the model", product.module.first,
                expected: "one", found: "\(other) and \(product.module.name), both for \(stored.string)",
                advice: "their updates were trained apart; take one of them out")
        }
        owners[stored] = product.module.name
        if found.tiedTo != nil || model.tensors.contains(where: { $0.tiedTo == found.name }) {
            notes.append("\(found.name) is one with another tensor of the model, which changes as well")
        }
        shared[stored, default: []].append(.product(product.update))
        guard let bias = product.module.upBias else { return }
        let name = product.module.name + ".bias"
        guard let found = tensor(name) else { throw lacking(name, bias) }
        shared[ExactString(found.tiedTo ?? found.name), default: []]
            .append(.sum(operand(bias), scale: product.update.scale))
    }

    private mutating func addTokens(of module: AdapterTensors.Module) throws(CairnError) {
        guard let tokens = module.tokens else { return }
        let name = module.name + ".weight"
        let rows = configuration.tokens.first { entry in
            entry.module.map { module.name == $0 || module.name.hasSuffix("." + $0) } ?? true
        }
        guard let rows else {
            throw failure(
                .mismatch, "the adapter has rows of an embedding whose numbers its configuration does not say", tokens,
                expected: "\(module.name) in trainable_token_indices")
        }
        guard module.down == nil, !isSaved(module.name) else {
            throw failure(
                .unsupported, "an embedding has rows of its own beside matrices or a weight that was trained whole", tokens,
                advice: "take trainable_token_indices or the other out")
        }
        guard let found = tensor(name) else { throw lacking(name, tokens) }
        shared[ExactString(found.tiedTo ?? found.name), default: []]
            .append(.rows(operand(tokens), at: rows.indices))
    }

    // MARK: Ties that the file does not show

    private static let embeddings: Set<String> = [
        "embed_tokens", "tok_embeddings", "wte", "word_embeddings", "shared", "embed_in",
    ]
    private static let outputs: Set<String> = ["lm_head", "embed_out", "output"]

    /// Embeddings and output layers may be one in the model although its file does not say so, which has one of them or both.
    private mutating func checkTies() throws(CairnError) {
        for tensor in model.tensors where tensor.shape.dimensionCount == 2 {
            let parts = tensor.name.split(separator: ".").map(String.init)
            guard parts.count > 1, parts.last == "weight", Self.embeddings.contains(parts[parts.count - 2]) else { continue }
            let others = model.tensors.filter { other in
                let parts = other.name.split(separator: ".").map(String.init)
                return other.shape == tensor.shape && parts.count > 1 && parts.last == "weight"
                    && Self.outputs.contains(parts[parts.count - 2])
            }
            let isReplaced = own[ExactString(tensor.name)] != nil
            if others.isEmpty, isReplaced, !additions.contains(where: { $0.name.hasSuffix(".weight") }) {
                guard !adapter.isForTiedModel else {
                    throw CairnError(
                        .unsupported, "the adapter replaces an embedding that is one with the output layer",
                        .init(
                            file: reader.source, tensor: tensor.name,
                            advice: "the output layer would keep the old one: write that beside it in the model first"))
                }
                notes.append(
                    "\(tensor.name) is the adapter's; an output layer that was one with it (tie_word_embeddings) "
                        + "is not written and would change with it")
            }
            for other in others where adapter.isForTiedModel && other.tiedTo == nil && tensor.tiedTo == nil {
                let changed = [tensor, other].filter { !updates(of: $0).isEmpty }
                guard changed.count == 1, !isReplaced, own[ExactString(other.name)] == nil else { continue }
                throw CairnError(
                    .unsupported, "the adapter changes one of two tensors that the model's configuration ties",
                    .init(
                        file: reader.source, tensor: changed[0].name, found: "\(tensor.name) and \(other.name), both stored",
                        advice: "set tie_word_embeddings to false if they are two, or leave one out of the file"))
            }
        }
    }
}
