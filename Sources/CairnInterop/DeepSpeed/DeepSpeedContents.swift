import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a DeepSpeed checkpoint holds, gathered while it is opened.
struct DeepSpeedContents {
    private let storage: any Storage
    private let prefix: String
    private let source: String
    private var entries: [ExactString: any TensorContent] = [:]
    private(set) var leaves: StateLeaves
    private(set) var omissions: [String] = []
    /// The keys of the files that were read.
    private(set) var keys: [String] = []

    private static let moments = ["exp_avg", "exp_avg_sq"]

    init(_ storage: any Storage, prefix: String, source: String) {
        self.storage = storage
        self.prefix = prefix
        self.source = source
        leaves = StateLeaves(file: source)
    }

    func table() throws(CairnError) -> TensorTable {
        TensorTable(entries.map { ($0.key.string, $0.value, nil) }, source: source)
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
        var shapes: [ExactString: Shape] = [:]
        for rank in modelRanks {
            guard let name = files.models[rank] ?? files.modelParts[rank]?[0] else {
                throw CairnError(.incomplete, "the file of the first rank is missing", .init(file: source, rank: rank))
            }
            let model = try state(prefix + name)
            try refuseOthers(model, files, ranks: modelRanks.count)
            if rank == 0 { try addValues(model) }
            let groups = try model.parameterShapes()
            for parameter in groups.joined() { shapes[ExactString(parameter.name)] = parameter.shape }
            addModule(model, parameters: groups.joined().map(\.name))
            if files.universal.isEmpty {
                try addOptimizer(files.optimizers[rank] ?? [:], rank: rank, groups, isFirst: rank == 0)
            }
        }
        try addLayers(files, shapes)
        try addGathered(shapes)
        for name in files.universal where shapes[ExactString(name)] != nil {
            try addUniversal(name, shape: shapes[ExactString(name)] ?? .scalar)
        }
    }

    private mutating func state(_ key: String) throws(CairnError) -> DeepSpeedState {
        keys.append(key)
        return try DeepSpeedState(storage, key)
    }

    private func refuseOthers(_ model: DeepSpeedState, _ files: DeepSpeedFiles, ranks: Int) throws(CairnError) {
        let isTensorParallel =
            model.integer("checkpoint_parallel_dimensions", "tp_degree").map { $0 > 1 }
            ?? (ranks > 1 && files.layers.isEmpty)
        guard !isTensorParallel, files.others.isEmpty else {
            throw CairnError(
                .unsupported, "tensor and expert parallel checkpoints of DeepSpeed are not read",
                .init(
                    file: source, found: files.others.first ?? "\(ranks) model ranks",
                    advice: "convert it with DeepSpeed's ds_to_universal first"))
        }
    }

    private mutating func add(_ content: any TensorContent, _ name: String, _ state: String) {
        let key = ExactString(name + "." + state)
        // Stages that share a parameter hold it each; the first one's counts.
        if entries[key] == nil { entries[key] = content }
    }

    private mutating func addValues(_ model: DeepSpeedState) throws(CairnError) {
        let inner: Set<StateKey> = ["param_shapes", "buffer_names", "shared_params", "module", "optimizer"]
        for (path, value) in model.contents.values where path.first.map({ !inner.contains($0) }) ?? false {
            try leaves.add(value, at: path)
        }
        omissions += model.contents.omissions
        for tensor in model.contents.tensors where tensor.path.first.map({ !inner.contains($0) }) ?? false {
            omissions.append("\(StateNames.joined(tensor.path)) is a tensor beside the parameters and is left out")
        }
    }

    /// The weights and buffers of the module. Under ZeRO 3 the weights are placeholders without elements.
    private mutating func addModule(_ model: DeepSpeedState, parameters: [String]) {
        for name in parameters {
            guard let content = model.tensor("module", StateKey(name)), content.shape.elementCount > 0 else { continue }
            add(content, name, "param")
        }
        for name in model.texts("buffer_names") {
            if let content = model.tensor("module", StateKey(name)) { add(content, name, "buffer") }
        }
    }

    /// The weights of a pipeline, a file for each layer.
    private mutating func addLayers(_ files: DeepSpeedFiles, _ shapes: [ExactString: Shape]) throws(CairnError) {
        for (layer, name) in files.layers {
            let state = try self.state(prefix + name)
            for tensor in state.contents.tensors {
                let inner = StateNames.joined(tensor.path)
                let plain = "\(layer).\(inner)"
                if shapes[ExactString(plain)] != nil {
                    add(tensor.content, plain, "param")
                    continue
                }
                // A tied layer's parameters have the tie's name instead of the layer's number.
                let tied = shapes.filter {
                    $0.key.string.hasPrefix("tied_modules.") && $0.key.string.hasSuffix("." + inner)
                        && $0.value == tensor.content.shape
                }
                if tied.count == 1, let key = tied.first?.key { add(tensor.content, key.string, "param") }
            }
        }
    }

    /// The 16-bit weights that ZeRO 3 can gather into a file above the checkpoint's directory.
    private mutating func addGathered(_ shapes: [ExactString: Shape]) throws(CairnError) {
        let name = "pytorch_model.bin"
        guard !prefix.isEmpty, try storage.list(name).contains(where: { $0.key == name }) else { return }
        for tensor in try self.state(name).contents.tensors {
            let parameter = StateNames.joined(tensor.path)
            if shapes[ExactString(parameter)] == tensor.content.shape { add(tensor.content, parameter, "param") }
        }
    }

    private mutating func addOptimizer(
        _ files: [Int: String], rank: Int, _ groups: [[(name: String, shape: Shape)]], isFirst: Bool
    ) throws(CairnError) {
        guard !files.isEmpty else {
            throw CairnError(
                .unsupported, "there are no partitions of ZeRO",
                .init(file: source, rank: rank, advice: "without ZeRO, open mp_rank_00_model_states.pt by itself"))
        }
        var ranks: [DeepSpeedState] = []
        for data in 0..<files.count {
            guard let name = files[data] else {
                throw CairnError(
                    .incomplete, "the file of a rank is missing",
                    .init(file: source, rank: data, expected: "\(files.count) ranks"))
            }
            ranks.append(try self.state(prefix + name))
        }
        guard let first = ranks.first else { return }
        // The state names the number of ranks that wrote it: a lost last file would else look like padding.
        let count =
            first.integer("optimizer_state_dict", "partition_count")
            ?? first.integer("optimizer_state_dict", "partition_count", 0)
        if let count, count != ranks.count {
            throw CairnError(
                .incomplete, "files of ranks are missing",
                .init(file: source, expected: "\(count) ranks", found: "\(ranks.count)"))
        }
        let isThird = first.tensor("optimizer_state_dict", "fp32_flat_groups", 0) != nil
        let inner: StateKey = isThird ? "optimizer_state_dict" : "base_optimizer_state"
        let master: StateKey = isThird ? "fp32_flat_groups" : "single_partition_of_fp32_groups"
        if isFirst { try addGroups(first, inner) }
        for state in ["fp32"] + Self.moments {
            func part(_ rank: DeepSpeedState, _ group: Int) -> (any TensorContent)? {
                state == "fp32"
                    ? rank.tensor("optimizer_state_dict", master, .index(group))
                    : rank.tensor("optimizer_state_dict", inner, "state", .index(group), StateKey(state))
            }
            if isThird {
                try addThird(ranks, groups, state, part)
            } else {
                try addFlat(ranks, groups, state, part)
            }
        }
    }

    /// ZeRO 1 and 2: the parameters of a group follow each other in one buffer, which the ranks divide.
    private mutating func addFlat(
        _ ranks: [DeepSpeedState], _ groups: [[(name: String, shape: Shape)]], _ state: String,
        _ part: (DeepSpeedState, Int) -> (any TensorContent)?
    ) throws(CairnError) {
        for (index, group) in groups.enumerated() {
            var buffer = FlatBuffer()
            for rank in ranks {
                if let content = part(rank, index), content.shape.dimensionCount == 1 { buffer.append(content) }
            }
            var start = 0
            for parameter in group {
                let count = parameter.shape.elementCount
                try addSlices([buffer.slice(start, count)], parameter, state)
                start += count
            }
        }
    }

    /// ZeRO 3: every rank has an equal share of every parameter, the last ones padded.
    private mutating func addThird(
        _ ranks: [DeepSpeedState], _ groups: [[(name: String, shape: Shape)]], _ state: String,
        _ part: (DeepSpeedState, Int) -> (any TensorContent)?
    ) throws(CairnError) {
        var buffers: [FlatBuffer] = []
        for rank in ranks {
            var buffer = FlatBuffer()
            var group = 0
            while let content = part(rank, group), content.shape.dimensionCount == 1 {
                buffer.append(content)
                group += 1
            }
            buffers.append(buffer)
        }
        var start = 0
        for parameter in groups.joined() {
            let count = parameter.shape.elementCount
            let share = count.dividedRoundingUp(by: ranks.count)
            let slices = buffers.enumerated().map { rank, buffer in
                buffer.slice(start, max(0, min(share, count - rank * share)))
            }
            try addSlices(slices, parameter, state)
            start += share
        }
    }

    private mutating func addSlices(
        _ slices: [FlatBuffer?], _ parameter: (name: String, shape: Shape), _ state: String
    ) throws(CairnError) {
        var whole = FlatBuffer()
        for slice in slices {
            guard let slice else {
                throw CairnError(
                    .incomplete, "the partitions are too short for a parameter",
                    .init(file: source, tensor: "\(parameter.name).\(state)"))
            }
            for piece in slice.pieces { whole.append(piece) }
        }
        do throws(CairnError) {
            add(try FlatTensor(whole, shape: parameter.shape), parameter.name, state)
        } catch {
            throw error.adding(.init(file: source, tensor: "\(parameter.name).\(state)"))
        }
    }

    /// The optimizer's options and the number of its steps.
    private mutating func addGroups(_ first: DeepSpeedState, _ inner: StateKey) throws(CairnError) {
        for (path, value) in first.contents.values
        where path.count > 3 && path[1] == inner && path[2] == "param_groups" {
            try leaves.add(value, at: Array(path.dropFirst(2)))
        }
        var group = 0
        while let step = first.tensor("optimizer_state_dict", inner, "state", .index(group), "step") {
            if step.scalarType == .f32, step.shape == .scalar {
                var number = [Float(0)]
                var span = number.mutableSpan
                var bytes = span.mutableBytes
                try step.read(Region(whole: .scalar), into: &bytes)
                try leaves.add(.double(Double(number[0])), at: ["optimizer_steps", .index(group)])
            }
            group += 1
        }
    }

    /// The states of a parameter of a universal checkpoint: tensors, or flat ones whose shape the model knows.
    private mutating func addUniversal(_ name: String, shape: Shape) throws(CairnError) {
        for state in ["fp32"] + Self.moments {
            let key = "\(prefix)zero/\(name)/\(state).pt"
            let storage = storage
            let open = { @Sendable () throws(CairnError) -> any TensorContent in
                let contents = try TorchContents(FileWindow(storage, key))
                let found = contents.tensors.first { $0.path.isEmpty || $0.path == ["param"] }
                guard let found else {
                    throw CairnError(.malformed, "the file holds no tensor", .init(file: storage.place(of: key)))
                }
                return found.content
            }
            self.keys.append(key)
            let stored = try open()
            let held = ReopenedTensor(scalarType: stored.scalarType, shape: stored.shape, open: open)
            guard stored.shape.dimensionCount == 1, stored.shape != shape else {
                add(held, name, state)
                continue
            }
            var buffer = FlatBuffer()
            buffer.append(held)
            try addSlices([buffer.slice(0, shape.elementCount)], (name, shape), state)
        }
    }
}
