import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// Reads the `zero` folder of a universal checkpoint: a file for each state of each parameter.
struct DeepSpeedUniversal {
    private let storage: any Storage
    private let prefix: String
    private let source: String

    private static let step = "step"

    init(_ storage: any Storage, prefix: String, source: String) {
        self.storage = storage
        self.prefix = prefix
        self.source = source
    }

    /// The states of the parameters that a model's file knows. The folder has others too: DeepSpeed writes buffers and
    /// second names as if they were parameters.
    ///
    /// - Parameter isWhole: Whether the model's file has the shapes of the whole parameters.
    func rank(
        _ files: [(parameter: String, states: [String])], _ model: DeepSpeedState, isWhole: Bool,
        _ keys: inout [String]
    ) throws(CairnError) -> DeepSpeedRank {
        var rank = DeepSpeedRank()
        rank.groups = try model.parameterShapes()
        let shapes = rank.shapes
        for file in files {
            guard let shape = shapes[ExactString(file.parameter)] else { continue }
            for state in file.states where state != Self.step {
                let key = "\(prefix)\(DeepSpeedFiles.universalFolder)\(file.parameter)/\(state).pt"
                keys.append(key)
                rank.add(try content(key, shape, isWhole: isWhole), file.parameter, state)
            }
        }
        return rank
    }

    private func content(_ key: String, _ shape: Shape, isWhole: Bool) throws(CairnError) -> any TensorView {
        let storage = storage
        let open = { @Sendable () throws(CairnError) -> (content: any TensorView, isBare: Bool) in
            let contents = try TorchContents(FileWindow(storage, key))
            guard let found = contents.tensors.first(where: { $0.path.isEmpty || $0.path == ["param"] }) else {
                throw CairnError(.malformed, "the file holds no tensor", .init(file: storage.location(of: key)))
            }
            return (found.content, found.path.isEmpty)
        }
        let (stored, isBare) = try open()
        let held = DeferredView(stored.scalarType, stored.shape) { () throws(CairnError) in
            try open().content
        }
        // ZeRO 3 leaves its parameters flat.
        guard isBare, isWhole, stored.shape != shape else { return held }
        do throws(CairnError) {
            return try held.reshaped(shape)
        } catch {
            throw error.adding(.init(file: storage.location(of: key)))
        }
    }

    /// Adds the optimizer's options and the number of its steps.
    func addValues(
        _ optimizer: DeepSpeedState, _ files: DeepSpeedFiles, _ note: UniversalNote, to leaves: inout StateLeaves
    ) throws(CairnError) {
        let inner: StateKey = "optimizer_state_dict"
        let hasInner = optimizer.contents.leaves.contains { $0.path.starts(with: [inner, "param_groups"]) }
        let root: [StateKey] = hasInner ? [inner] : []
        let options = root + ["param_groups"]
        var count = 0
        for (path, value) in optimizer.contents.leaves
        where path.count > options.count + 1 && path.starts(with: options) {
            if case .index(let group) = path[options.count] { count = max(count, group + 1) }
            // Numbers of flat buffers say nothing any more; names do.
            if path[options.count + 1] == "params", !note.exists { continue }
            try leaves.add(value, at: Array(path.dropFirst(root.count)))
        }
        var steps: [Value] = []
        // Where there were no steps, Cairn writes one for loaders that ask.
        if optimizer.integer(UniversalNote.key, "steps") == 0 { return }
        while let step = try optimizer.number(at: root + ["state", .index(steps.count), "step"]) { steps.append(step) }
        if steps.isEmpty, !note.exists, let step = try commonStep(files) {
            steps = [Value](repeating: step, count: max(1, count))
        }
        if !steps.isEmpty { try leaves.add(.list(steps), at: ["optimizer_steps"]) }
    }

    /// The number of steps of all parameters, where it is the same.
    private func commonStep(_ files: DeepSpeedFiles) throws(CairnError) -> Value? {
        var common: Value?
        for file in files.universal where file.states.contains(Self.step) {
            let key = "\(prefix)\(DeepSpeedFiles.universalFolder)\(file.parameter)/\(Self.step).pt"
            guard let step = try DeepSpeedState(storage, key).number(at: []) else { return nil }
            guard common == nil || common == step else { return nil }
            common = step
        }
        return common
    }
}

/// What Cairn notes in the model's file of a universal checkpoint, so that it can be read back as it was.
struct UniversalNote {
    /// The note's place in the file.
    static let key: StateKey = "cairn"
    static let copies = "copies"
    static let defaults = "defaults"

    /// Names of weights that are the single-precision ones again, for loaders that want a whole module.
    private let copied: Set<ExactString>
    /// Keys that DeepSpeed wants to see and that the source did not have.
    private let added: Set<ExactString>
    /// Whether there is a note.
    let exists: Bool

    init(_ model: DeepSpeedState) {
        copied = Set(model.texts(Self.key, StateKey(Self.copies)).map { ExactString($0) })
        added = Set(model.texts(Self.key, StateKey(Self.defaults)).map { ExactString($0) })
        exists = model.contents.leaves.contains { $0.path.first == Self.key }
    }

    func isCopy(_ name: String) -> Bool { copied.contains(ExactString(name)) }

    func hides(_ key: String) -> Bool { added.contains(ExactString(key)) }
}
