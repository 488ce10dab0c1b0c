import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a universal checkpoint of DeepSpeed: a file for each state of each parameter, which a job with any number of
/// ranks and any stage of ZeRO loads (`"checkpoint": {"load_universal": true}`).
///
/// Parameters come as DeepSpeed's own reader names them (`NAME.fp32`, `NAME.exp_avg`, …, `NAME.param`,
/// `NAME.buffer`), or under their names with `optimizer.STATE.NAME` beside them. Tensors are written as they come, so
/// nothing is held in memory. The directory gets one checkpoint, `global_stepN_universal`, and `latest_universal`, which is
/// written last.
///
/// Loaders of stage 3 want other files than those of stages 0 to 2, so that DeepSpeed's own converter writes what only
/// some of them load; here both are there. Source: `deepspeed/checkpoint/ds_to_universal.py`,
/// `universal_checkpoint.py` and `runtime/` of DeepSpeed 0.19, and `runtime/engine.py` since 0.10.
public final class DeepSpeedUniversalWriter: TensorStreamWriter {
    private static let latest = "latest_universal"
    private static let modelName = "mp_rank_00_model_states.pt"
    private static let thirdModelName = "zero_pp_rank_0_mp_rank_00_model_states.pt"
    private static let archivePrefix = "archive"

    private let storage: any Storage
    private let step: Int
    private let replaces: Bool

    private var plan: UniversalPlan?
    private var files: UniversalModelFiles?
    private var prefix = ""
    /// The file of the state that comes now.
    private var current: (file: any StorageWriter, archive: TorchArchiveWriter, key: String)?
    private var model: (file: any StorageWriter, archive: TorchArchiveWriter)?
    private var thirdModel: (file: any StorageWriter, archive: TorchArchiveWriter)?
    /// Files that are there under their names, until the whole checkpoint is.
    private var published: [String] = []
    package var stream = TensorStream()
    package var destination: String { storage.location(of: prefix) }

    /// Prepares to write to a storage, to which nothing happens before it begins.
    ///
    /// - Parameters:
    ///   - step: The number in the checkpoint's name, where the values have no `global_steps`.
    ///   - replaces: Whether the directory may have such a checkpoint already; it is deleted at the beginning.
    public init(storage: any Storage, step: Int = 0, replaces: Bool = false) {
        self.storage = storage
        self.step = step
        self.replaces = replaces
    }

    /// Prepares to write to a directory.
    public convenience init(path: String, step: Int = 0, replaces: Bool = false) {
        self.init(storage: LocalStorage(root: path), step: step, replaces: replaces)
    }

    deinit { discard() }

    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` when no tensor is a parameter's
    ///   state, or has a type or a name that cannot be written.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        let plan = try UniversalPlan(tensors, values, file: destination)
        let files = try UniversalModelFiles(plan, values, step: step)
        prefix = "global_step\(files.step)_universal/"
        let isAnew = try makeRoom()
        self.plan = plan
        self.files = files
        let modelFile = try storage.create(prefix + Self.modelName, byteCount: files.modelByteCount)
        model = (
            modelFile,
            try TorchArchiveWriter(
                modelFile, prefix: Self.archivePrefix, pickle: files.modelPickle(isThird: false))
        )
        let thirdFile = try storage.create(prefix + Self.thirdModelName, byteCount: nil)
        var third = try TorchArchiveWriter(
            thirdFile, prefix: Self.archivePrefix, pickle: files.modelPickle(isThird: true))
        for _ in files.placeholderTypes { try third.beginStorage(byteCount: 0) }
        thirdModel = (thirdFile, third)
        try writeSteps(plan, files)
        let anew = isAnew ? ["an interrupted conversion was there; it is started over"] : []
        return .init(
            items: plan.roles.map { .init(tensor: $0.tensor.name, byteCount: $0.tensor.byteCount) },
            notes: anew + plan.notes + files.notes + StateNode.losses(of: structure, in: .flat))
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        guard let plan else { return }
        switch plan.roles[item].role {
        case .state(let parameter, let name):
            try current?.archive.append(bytes)
            if name == "fp32", files?.isCopied(parameter) == true { try model?.archive.append(bytes) }
        case .weight: try model?.archive.append(bytes)
        case .buffer:
            try model?.archive.append(bytes)
            try thirdModel?.archive.append(bytes)
        case .nothing: break
        }
    }

    package func close() throws {
        guard let files else { return }
        try write(files.optimizerPickle(), as: prefix + DeepSpeedFiles.universalOptimizer)
        // A model's file makes the directory a checkpoint, so these come when the rest is there.
        if let (file, begun) = thirdModel {
            var archive = begun
            thirdModel = nil
            published.append(prefix + Self.thirdModelName)
            try file.finish(byteCount: archive.finish())
        }
        if let (file, begun) = model {
            var archive = begun
            model = nil
            published.append(prefix + Self.modelName)
            try file.finish(byteCount: archive.finish())
        }
        published.append(Self.latest)
        try storage.publish(Array(prefix.dropLast().utf8), as: Self.latest)
    }

    package func abandon() {
        current?.file.discard()
        model?.file.discard()
        thirdModel?.file.discard()
        // Not synced; states that stay are not a checkpoint without a model's file.
        try? storage.delete(published.reversed())
    }

    // MARK: Tensors

    package func beginItem(_ item: Int) throws {
        guard let next = plan?.roles[item] else { return }
        let byteCount = next.tensor.byteCount
        switch next.role {
        case .state(let parameter, let name):
            let key = "\(prefix)\(DeepSpeedFiles.universalFolder)\(parameter)/\(name).pt"
            try StorageKey.validate(key)
            let pickle = try StatePickle.bytes(
                of: .dictionary([
                    .init(key: "cat_dim", node: .value(.integer(0))),
                    .init(key: "param", node: .tensor(next.tensor.name)),
                ]),
                tensors: [.init(description: next.tensor, storage: 0)])
            let file = try storage.createStreamed(key, byteCount: byteCount + pickle.count + 2048)
            var archive = try TorchArchiveWriter(file, prefix: Self.archivePrefix, pickle: pickle)
            try archive.beginStorage(byteCount: byteCount)
            current = (file, archive, key)
            if name == "fp32", files?.isCopied(parameter) == true {
                try model?.archive.beginStorage(byteCount: byteCount)
            }
        case .weight: try model?.archive.beginStorage(byteCount: byteCount)
        case .buffer:
            try model?.archive.beginStorage(byteCount: byteCount)
            try thirdModel?.archive.beginStorage(byteCount: byteCount)
        case .nothing: break
        }
    }

    package func endItem(_ item: Int) throws {
        if let (file, begun, key) = current {
            var archive = begun
            current = nil
            published.append(key)
            try file.finish(byteCount: archive.finish())
        }
    }

    /// Writes how many steps each parameter has had.
    private func writeSteps(_ plan: UniversalPlan, _ files: UniversalModelFiles) throws {
        for parameter in plan.parameters {
            guard let (node, bytes) = files.step(of: parameter.name) else { continue }
            let scalar = TensorDescription(name: "step", scalarType: .f32, shape: .scalar)
            let pickle = try StatePickle.bytes(of: node, tensors: [.init(description: scalar, storage: 0)])
            try write((pickle, bytes), as: "\(prefix)\(DeepSpeedFiles.universalFolder)\(parameter.name)/step.pt")
        }
    }

    /// Writes a small file: a pickle and, for each storage, its bytes.
    private func write(_ content: (pickle: [UInt8], storages: [[UInt8]]), as key: String) throws {
        let file = try storage.create(key, byteCount: nil)
        var archive = try TorchArchiveWriter(file, prefix: Self.archivePrefix, pickle: content.pickle)
        for bytes in content.storages {
            try archive.beginStorage(byteCount: bytes.count)
            try archive.append(bytes.span.bytes)
        }
        published.append(key)
        try file.finish(byteCount: archive.finish())
    }

    /// Refuses to mix with what is there, or removes a checkpoint of the same name.
    ///
    /// - Returns: Whether there was what an interrupted conversion left, which is gone now.
    private func makeRoom() throws -> Bool {
        let old = try storage.list(prefix).map(\.key)
        let named = try storage.list(Self.latest).map(\.key).filter { ExactString($0) == ExactString(Self.latest) }
        guard let first = named.first ?? old.first(where: { !$0.hasPrefix(prefix + DeepSpeedFiles.universalFolder) })
        else {
            // States without a model's file are what a killed conversion left.
            try storage.delete(old)
            return !old.isEmpty
        }
        guard replaces else {
            throw CairnError(
                .alreadyExists, "there is a universal checkpoint, or part of one",
                .init(file: storage.location(of: first), advice: "choose another directory, or allow replacing it"))
        }
        // What makes it a checkpoint goes first.
        try storage.delete(named)
        try storage.delete(old.filter { $0.hasSuffix(Self.modelName) || $0.hasSuffix(Self.thirdModelName) })
        try storage.delete(old)
        return false
    }
}
