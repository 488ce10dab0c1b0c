import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a DeepSpeed checkpoint holds, gathered while it is opened.
struct DeepSpeedContents {
    /// What the model ranks hold: stage by stage, in each the tensor ranks.
    private(set) var ranks: [DeepSpeedRank] = []
    /// How many ranks shard a parameter.
    private(set) var tensorDegree = 1
    /// How they do so, where the checkpoint says.
    private(set) var rules: TensorParallelRules?
    /// The states of a universal checkpoint, which are whole.
    private(set) var universal: DeepSpeedRank?
    private(set) var leaves: StateLeaves
    private(set) var skippedEntries: [String] = []
    /// The keys of the files that were read.
    private(set) var keys: [String] = []

    /// The values of the first model rank's file, which are the checkpoint's.
    private var firstValues: [[StateKey]: Value] = [:]

    private let storage: any Storage
    private let prefix: String
    private let source: String
    /// The keys of a model's file that are not values beside its parameters.
    private static let inner: Set<StateKey> = [
        "param_shapes", "buffer_names", "shared_params", "module", "optimizer", "frozen_param_fragments",
        UniversalNote.key,
    ]

    init(_ storage: any Storage, prefix: String, source: String) {
        self.storage = storage
        self.prefix = prefix
        self.source = source
        leaves = StateLeaves(file: source)
    }

    mutating func read() throws(CairnError) {
        let names = try storage.list(prefix).map { String($0.key.dropFirst(prefix.count)) }
        let files = DeepSpeedFiles(names)
        let modelRanks = Set(files.models.keys).union(files.modelParts.keys).sorted()
        guard !modelRanks.isEmpty, modelRanks == Array(0..<modelRanks.count) else {
            throw CairnError(
                .incomplete, "the directory lacks model states",
                .init(file: source, expected: "mp_rank_00_model_states.pt", found: "model ranks \(modelRanks)"))
        }
        for rank in modelRanks { try addRank(rank, of: modelRanks.count, files) }
        try addLayers(files)
        try addExperts(files)
        try addGathered()
        for name in files.others { skippedEntries.append("\(name) is not understood and left out") }
        if universal != nil, tensorDegree > 1, rules == nil {
            skippedEntries.append("weights are sharded over tensor ranks in a way that is not stated: they are left out")
        }
    }

    private mutating func state(_ key: String) throws(CairnError) -> DeepSpeedState {
        keys.append(key)
        return try DeepSpeedState(storage, key)
    }

    private mutating func addRank(_ rank: Int, of count: Int, _ files: DeepSpeedFiles) throws(CairnError) {
        guard let name = files.models[rank] ?? files.modelParts[rank]?[0] else {
            throw CairnError(.incomplete, "the file of the first rank is missing", .init(file: source, rank: rank))
        }
        let model = try state(prefix + name)
        let module = DeepSpeedModule(model)
        var contents = DeepSpeedRank()
        contents.addShared(module.shared)
        contents.groups = try model.parameterShapes()
        if rank == 0 {
            try addValues(model, module)
            rules = try TensorParallelRules(model)
            let dimensions = model.integer("checkpoint_parallel_dimensions", "tp_degree")
            let isUniversal = !files.universal.isEmpty
            tensorDegree = dimensions ?? files.tensorDegree ?? (isUniversal ? 1 : count)
            guard tensorDegree > 0, count.isMultiple(of: tensorDegree) else {
                throw CairnError(
                    .malformed, "the number of model ranks is not a multiple of the tensor ranks",
                    .init(file: source, expected: "a multiple of \(tensorDegree)", found: "\(count)"))
            }
        }
        if rank > 0 { noteOtherValues(model, of: name) }
        try noteOtherValues(ofParts: files, rank: rank)
        let note = UniversalNote(model)
        let frozen = try model.frozenShapes()
        if files.universal.isEmpty {
            try addOptimizer(files.optimizers[rank] ?? [:], rank: rank, model, module, frozen, to: &contents)
        } else if rank == 0 {
            let reading = DeepSpeedUniversal(storage, prefix: prefix, source: source)
            universal = try reading.rank(files.universal, model, isWhole: tensorDegree == 1, &keys)
            if files.hasUniversalOptimizer {
                try reading.addValues(state(prefix + DeepSpeedFiles.universalOptimizer), files, note, to: &leaves)
            }
        } else {
            let reading = DeepSpeedUniversal(storage, prefix: prefix, source: source)
            let more = try reading.rank(files.universal, model, isWhole: tensorDegree == 1, &keys)
            for key in more.keys {
                if let content = more.entries[key] { universal?.add(content, key.parameter.string, key.state) }
            }
        }
        // Under ZeRO 3 the weights are placeholders without elements.
        for weight in module.weights where weight.content.shape.elementCount > 0 && !note.isCopy(weight.name) {
            contents.add(weight.content, weight.name, "param")
        }
        for buffer in module.buffers { contents.add(buffer.content, buffer.name, "buffer") }
        if files.models[rank] == nil, !frozen.isEmpty {
            try addFrozen(frozen, files.modelParts[rank] ?? [:], first: model, to: &contents)
        }
        ranks.append(contents)
    }

    private mutating func addValues(_ model: DeepSpeedState, _ module: DeepSpeedModule) throws(CairnError) {
        let note = UniversalNote(model)
        for (path, value) in model.contents.leaves
        where path.first.map({ !Self.inner.contains($0) && !note.hides($0.text) }) ?? false {
            try leaves.add(value, at: path)
            firstValues[path] = value
        }
        if !module.shared.isEmpty { try leaves.add(module.sharedValue, at: ["shared_params"]) }
        skippedEntries += model.contents.skippedEntries
        for tensor in model.contents.tensors where tensor.path.first.map({ !Self.inner.contains($0) }) ?? false {
            skippedEntries.append("\(StateNames.joined(tensor.path)) is a tensor beside the parameters and is left out")
        }
    }

    /// Says which values a rank has otherwise than the first: a generator's state, for instance.
    private mutating func noteOtherValues(_ model: DeepSpeedState, of name: String) {
        let note = UniversalNote(model)
        var own: [[StateKey]: Value] = [:]
        for (path, value) in model.contents.leaves
        where path.first.map({ !Self.inner.contains($0) && !note.hides($0.text) }) ?? false {
            own[path] = value
        }
        let differing = Set(own.keys).union(firstValues.keys).filter { own[$0] != firstValues[$0] }
        let names = Set(differing.compactMap { $0.first?.text }).sorted()
        guard !names.isEmpty else { return }
        let shown = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? " and \(names.count - 4) more" : "")
        skippedEntries.append("\(name) has other values than the first rank's, which are left out: \(shown)")
    }

    /// The same of the data-parallel ranks' files, of which only the first is needed for the parameters.
    private mutating func noteOtherValues(ofParts files: DeepSpeedFiles, rank: Int) throws(CairnError) {
        let parts = (files.modelParts[rank] ?? [:]).sorted { $0.key < $1.key }
        for (part, name) in parts where part > 0 || files.models[rank] != nil {
            do throws(CairnError) {
                noteOtherValues(try DeepSpeedState(storage, prefix + name), of: name)
            } catch {
                guard error.code.isUnusable else { throw error }
                skippedEntries.append("\(name) cannot be read, so its values are left out: \(error.message)")
            }
        }
    }

    private mutating func addOptimizer(
        _ files: [Int: String], rank: Int, _ model: DeepSpeedState, _ module: DeepSpeedModule,
        _ frozen: [DeepSpeedParameter], to contents: inout DeepSpeedRank
    ) throws(CairnError) {
        let frozenNames = Set(frozen.map { ExactString($0.name) })
        let trained = module.weights.filter { !frozenNames.contains(ExactString($0.name)) }
        guard !files.isEmpty else {
            guard contents.groups.isEmpty else {
                throw CairnError(
                    .incomplete, "the partitions of ZeRO are missing",
                    .init(file: source, rank: rank, expected: "zero_pp_rank_0_mp_rank_00_optim_states.pt"))
            }
            var optimizer = DeepSpeedWholeOptimizer(model, weights: trained)
            try optimizer.add(to: &contents)
            skippedEntries += optimizer.skippedEntries
            if rank == 0 {
                try addGroups(model, optimizer.optimizerPath, contents.groups, numbers: optimizer.firstNumbers())
            }
            return
        }
        var states: [DeepSpeedState] = []
        for data in 0..<files.count {
            guard let name = files[data] else {
                throw CairnError(
                    .incomplete, "the file of a rank is missing",
                    .init(file: source, rank: data, expected: "\(files.count) ranks"))
            }
            states.append(try self.state(prefix + name))
        }
        var partitions = try DeepSpeedPartitions(states, modelRank: rank, source: source)
        if contents.groups.isEmpty {
            let shapes = Dictionary(
                trained.map { (ExactString($0.name), $0.content.shape) }, uniquingKeysWith: { first, _ in first })
            contents.groups = partitions.groups(shapes: shapes)
        }
        try partitions.add(to: &contents)
        skippedEntries += partitions.skippedEntries
        if rank == 0, let first = states.first {
            try addGroups(first, partitions.optimizerPath, contents.groups, numbers: nil)
        }
    }

    /// The optimizer's options and the number of its steps, by its groups; the parameters of a group by name.
    ///
    /// - Parameter numbers: The number of one parameter of each group, where states are kept by them.
    private mutating func addGroups(
        _ file: DeepSpeedState, _ root: [StateKey], _ groups: [[DeepSpeedParameter]], numbers: [Int]?
    ) throws(CairnError) {
        let options = root + ["param_groups"]
        var count = 0
        for (path, value) in file.contents.leaves where path.count > options.count + 1 && path.starts(with: options) {
            if case .index(let group) = path[options.count] { count = max(count, group + 1) }
            guard path[options.count + 1] != "params" else { continue }
            try leaves.add(value, at: Array(path.dropFirst(root.count)))
        }
        if count == groups.count {
            for (index, group) in groups.enumerated() {
                let names = group.map { Value.string($0.name) }
                try leaves.add(.list(names), at: ["param_groups", .index(index), "params"])
            }
        }
        var steps: [Value] = []
        while steps.count < numbers?.count ?? Int.max {
            let number = numbers?[steps.count] ?? steps.count
            guard let step = try file.number(at: root + ["state", .index(number), "step"]) else { break }
            steps.append(step)
        }
        if !steps.isEmpty { try leaves.add(.list(steps), at: ["optimizer_steps"]) }
    }

    /// Weights that are not trained, of which every rank has an equal share under ZeRO 3.
    private mutating func addFrozen(
        _ frozen: [DeepSpeedParameter], _ files: [Int: String], first: DeepSpeedState, to contents: inout DeepSpeedRank
    ) throws(CairnError) {
        var states = [first]
        for data in 1..<max(1, files.count) {
            guard let name = files[data] else {
                throw CairnError(.incomplete, "the file of a rank is missing", .init(file: source, rank: data))
            }
            states.append(try state(prefix + name))
        }
        for parameter in frozen {
            var buffer = ElementRuns()
            for state in states {
                guard let part = state.tensor("frozen_param_fragments", StateKey(parameter.name)) else { continue }
                buffer.append(try part.reshaped(Shape(checking: [part.shape.elementCount])))
            }
            guard let whole = buffer.slice(0, parameter.shape.elementCount) else {
                throw CairnError(
                    .incomplete, "the ranks' parts of a parameter are too few",
                    .init(file: source, tensor: parameter.name + ".param"))
            }
            contents.add(try whole.tensor(parameter.shape), parameter.name, "param")
        }
    }

    /// The weights of a pipeline, a file for each layer and tensor rank.
    private mutating func addLayers(_ files: DeepSpeedFiles) throws(CairnError) {
        let shapes = ranks.map(\.shapes)
        var buffers: Set<ExactString> = []
        for rank in 0..<ranks.count {
            if let name = files.models[rank] {
                buffers.formUnion(try state(prefix + name).texts("buffer_names").map { ExactString($0) })
            }
        }
        for file in files.layers {
            let state = try self.state(prefix + file.name)
            let tensorRank = file.tensorRank ?? 0
            let stages = ranks.indices.filter { $0 % tensorDegree == tensorRank % tensorDegree }
            for tensor in state.contents.tensors {
                let inner = StateNames.joined(tensor.path)
                let plain = ExactString("\(file.layer).\(inner)")
                if let owner = stages.first(where: { shapes[$0][plain] != nil }) {
                    ranks[owner].add(tensor.content, plain.string, "param")
                    continue
                }
                // A tied layer's parameters have the tie's name instead of the layer's number.
                let tied = stages.flatMap { stage in
                    shapes[stage].filter {
                        $0.key.string.hasPrefix("tied_modules.") && $0.key.string.hasSuffix("." + inner)
                            && $0.value == tensor.content.shape
                    }.map { (stage: stage, name: $0.key.string) }
                }
                if Set(tied.map { ExactString($0.name) }).count == 1, let owner = tied.first {
                    ranks[owner.stage].add(tensor.content, owner.name, "param")
                } else if tied.isEmpty, let owner = stages.first {
                    // Not trained: a buffer, or a weight that is frozen.
                    ranks[owner].add(tensor.content, plain.string, buffers.contains(plain) ? "buffer" : "param")
                } else {
                    skippedEntries.append("\(plain.string) may be any of \(tied.count) tied parameters and is left out")
                }
            }
        }
    }

    /// The weights of experts, a file for each.
    private mutating func addExperts(_ files: DeepSpeedFiles) throws(CairnError) {
        for file in files.experts {
            let state = try self.state(prefix + file.name)
            guard file.modelRank < ranks.count else { continue }
            for tensor in state.contents.tensors {
                ranks[file.modelRank].add(tensor.content, StateNames.joined(tensor.path), "param")
            }
        }
    }

    /// The 16-bit weights that ZeRO 3 can gather into a file above the checkpoint's directory.
    private mutating func addGathered() throws(CairnError) {
        let name = "pytorch_model.bin"
        guard !prefix.isEmpty, ranks.count == 1, try storage.list(name).contains(where: { $0.key == name }) else {
            return
        }
        let shapes = ranks[0].shapes
        for tensor in try self.state(name).contents.tensors {
            let parameter = StateNames.joined(tensor.path)
            if shapes[ExactString(parameter)] == tensor.content.shape {
                ranks[0].add(tensor.content, parameter, "param")
            }
        }
    }

    // MARK: The whole

    /// The states of all parameters, whole.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` when tensor ranks shard parameters and nothing says how.
    func whole() throws(CairnError) -> DeepSpeedRank {
        var whole = universal ?? DeepSpeedRank()
        for rank in ranks { whole.addShared(rank.shared) }
        if tensorDegree == 1 {
            // Stages that share a parameter hold it each; the first one's counts.
            for rank in ranks {
                for key in rank.keys {
                    if let content = rank.entries[key] { whole.add(content, key.parameter.string, key.state) }
                }
            }
            return whole
        }
        guard let rules else {
            // The optimizer's states are whole all the same.
            if universal != nil { return whole }
            throw CairnError(
                .unsupported, "\(tensorDegree) tensor ranks shard the parameters, and the checkpoint does not say how",
                .init(
                    file: source, found: "\(ranks.count) model ranks",
                    advice: "say how by --rules FILE; `cairn help rules` tells about them"))
        }
        for stage in stride(from: 0, to: ranks.count, by: tensorDegree) {
            let members = ranks[stage..<stage + tensorDegree]
            for key in members.first?.keys ?? [] {
                let parts = members.compactMap { $0.entries[key] }
                guard parts.count == members.count else {
                    throw CairnError(
                        .incomplete, "not every tensor rank has this tensor", .init(file: source, tensor: key.name))
                }
                // Buffers are the same on all ranks.
                let content =
                    key.state == "buffer"
                    ? try equal(parts, key) : try rules.gathered(parts, key.parameter.string)
                whole.add(content, key.parameter.string, key.state)
            }
        }
        return whole
    }

    private func equal(_ parts: [any TensorView], _ key: DeepSpeedRank.Key) throws(CairnError) -> any TensorView {
        do throws(CairnError) {
            return try EqualView(copies: parts)
        } catch {
            throw error.adding(.init(file: source, tensor: key.name))
        }
    }
}
