public import CairnBase
public import CairnStorage
import CairnTensor

/// The checkpoints of one training run.
///
/// Calls block until the work is done and durable. From `async` code use the variants that are `async`: they run on
/// threads of their own.
///
/// ```swift
/// let store = CheckpointStore(path: "runs/kjv")
/// try store.save(state, step: 400)
/// if let latest = try store.resume().loaded() { print(latest.step) }
/// ```
public final class CheckpointStore: Sendable {
    /// Where the checkpoints are.
    public let storage: any Storage
    /// What to call the store in messages.
    public let name: String
    /// What saves through this object know of the tensors that they wrote.
    private let known = KnownFragments()

    /// A store in a folder of the file system; it is made by the first save.
    public init(path: String) {
        storage = LocalStorage(root: path)
        name = path
    }

    /// A store in any storage.
    public init(storage: any Storage, name: String) {
        self.storage = storage
        self.name = name
    }

    // MARK: Saving

    /// Saves a state as the checkpoint of `step`. When it returns, the checkpoint is durable.
    ///
    /// - Returns: The manifest that committed it.
    /// A checkpoint of the same step that is unusable is set aside, which ``Manifest/setAside`` of the result says.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` unless ``SaveOptions/replacing``, ``CairnError/Code/noSpace``, … Older
    ///   checkpoints are untouched by a failed save, and the state can be saved again.
    @discardableResult
    public func save(_ state: TrainingState, step: Int, options: SaveOptions = SaveOptions()) throws -> Manifest {
        let session = try beginSave(step: step, rankCount: 1, options: options)
        do {
            let content = SaveContent(state)
            try session.setGlobal(of: content)
            try session.write(content)
            return try session.commit()
        } catch {
            session.cancel()
            throw error
        }
    }

    /// Starts a save in which `rankCount` ranks take part.
    package func beginSave(
        step: Int, rankCount: Int, options: SaveOptions = SaveOptions()
    ) throws(CairnError) -> SaveSession {
        var options = options
        options.known = known
        return try SaveSession(
            storage: storage, prefix: StepName.prefix(step), step: step, rankCount: rankCount, options: options)
    }

    // MARK: Finding

    /// The steps that have a committed checkpoint, in ascending order; those in quarantine are among them.
    public func steps() throws(CairnError) -> [Int] { try committedSteps().map(\.step) }

    /// The committed steps in ascending order, and beside which manifests a quarantine stands.
    func committedSteps() throws(CairnError) -> [(step: Int, isMarked: Bool)] {
        var steps: [Int] = []
        var marked = Set<Int>()
        for entry in try storage.list("step-") {
            guard let step = StepName.step(ofKey: entry.key) else { continue }
            let prefix = StepName.prefix(step)
            if entry.key == prefix + CairnReader.manifestName { steps.append(step) }
            if entry.key == prefix + StepName.quarantineName { marked.insert(step) }
        }
        return steps.sorted().map { ($0, marked.contains($0)) }
    }

    /// The newest committed step, or `nil` in an empty store. Its checkpoint may be damaged or in quarantine; see
    /// ``newestUsable()``.
    public func latest() throws(CairnError) -> Int? { try steps().last }

    /// Opens the checkpoint of a step.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none.
    public func open(step: Int) throws(CairnError) -> CairnReader { try openWithManifest(step: step).reader }

    /// Opens the checkpoint of a step; also gives the manifest as it is stored.
    func openWithManifest(step: Int) throws(CairnError) -> (reader: CairnReader, manifest: [UInt8]) {
        let prefix = StepName.prefix(step)
        do throws(CairnError) {
            let bytes = try storage.readAll(prefix + CairnReader.manifestName, limit: Manifest.maximumByteCount)
            return (try CairnReader(storage, prefix: prefix, source: "\(name)@\(step)", manifest: bytes), bytes)
        } catch {
            guard error.code == .notFound else { throw error }
            let steps = try self.steps()
            throw CairnError(
                .notFound, "there is no checkpoint of step \(step)",
                .init(
                    file: name,
                    expected: steps.isEmpty
                        ? "a store with checkpoints" : "one of \(Self.abbreviate(steps))"))
        }
    }

    /// A checkpoint that could not be used, and why.
    public struct Skipped: Sendable {
        public var step: Int
        public var error: CairnError

        package init(step: Int, error: CairnError) {
            self.step = step
            self.error = error
        }
    }

    // MARK: Loading

    /// Loads the checkpoint of a step, verified.
    public func load(step: Int, options: LoadOptions = LoadOptions()) throws -> TrainingState {
        try TrainingState(reading: open(step: step), options: options)
    }

    /// Loads the newest checkpoint that can be read whole; falls back past damaged ones, and past those in quarantine, and
    /// says which. `resume(options:)` does the same and makes of the cases in which there is nothing to load a choice.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when the store has no checkpoint, ``CairnError/Code/nothingUsable`` when it has
    ///   some and none can be read. An error that is not damage of the checkpoint, such as a failing disk, is thrown at once.
    public func loadLatest(options: LoadOptions = LoadOptions()) throws -> Loaded<TrainingState> {
        guard let latest = try resume(options: options).loaded() else { throw noneUsable([]) }
        return latest
    }

    /// What a load throws that found nothing to load.
    package func noneUsable(_ skipped: [Skipped]) -> CairnError {
        guard let newest = skipped.first else {
            return CairnError(
                .notFound, "the store has no checkpoint", .init(file: name, advice: "a new run starts without one"))
        }
        return CairnError(
            .nothingUsable, "the store has checkpoints and none of them can be used",
            .init(
                file: name, found: "unusable steps \(Self.abbreviate(skipped.map(\.step)))",
                advice: "look at them with `cairn verify` and `cairn repair` before starting from nothing"),
            cause: newest.error)
    }

    private static func abbreviate(_ steps: [Int]) -> String {
        let shown =
            steps.count > 8
            ? steps.prefix(3).map(String.init) + ["…"] + steps.suffix(3).map(String.init) : steps.map(String.init)
        return shown.joined(separator: ", ")
    }
}

extension CheckpointStore {
    /// Saves a state without blocking the calling task's thread.
    @discardableResult
    public func save(
        _ state: TrainingState, step: Int, options: SaveOptions = SaveOptions()
    ) async throws -> Manifest {
        try await ThreadPool.shared.run { try self.save(state, step: step, options: options) }
    }

    /// Loads a checkpoint without blocking the calling task's thread.
    public func load(step: Int, options: LoadOptions = LoadOptions()) async throws -> TrainingState {
        try await ThreadPool.shared.run { try self.load(step: step, options: options) }
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread.
    public func loadLatest(options: LoadOptions = LoadOptions()) async throws -> Loaded<TrainingState> {
        try await ThreadPool.shared.run { try self.loadLatest(options: options) }
    }
}

/// What a save may be told besides the state.
public struct SaveOptions: Sendable {
    /// Numbers to choose checkpoints by, such as a validation loss.
    public var metrics: [String: Double] = [:]
    /// What the state was made from.
    public var lineage: Lineage?
    /// How tensors are compressed.
    public var compression = Compression.none
    /// The bytes that one checksum covers: a power of two from 4 KiB to 64 MiB. Reading part of a tensor reads whole
    /// chunks.
    package var chunkByteCount = 1 << 20
    /// Replaces a checkpoint of the same step. The old one stays whole and readable until the new one is durable.
    ///
    /// One that is unusable (damaged, incomplete or in quarantine) may be saved over without permission and is not lost by it: it
    /// is set aside, and the save says so (``Manifest/setAside``).
    public var replacing = false
    /// Refers to files of earlier saves for tensors that have not changed since, instead of writing them again: frozen layers,
    /// embeddings, experts that were not touched. Such a checkpoint needs those files, which retention keeps;
    /// ``CheckpointStore/pack(step:progress:)`` makes it self-contained.
    ///
    /// Tensors that the caller has not written to since the last save through the same ``CheckpointStore`` are not even read;
    /// others are compared with the file byte by byte. An earlier file is referred to only if at least half of it is still needed.
    public var reusesUnchanged = false
    /// What earlier saves through the same store know.
    var known: KnownFragments?
    /// Deletes a checkpoint of the same step that is unusable instead of setting it aside.
    public var discardsUnusable = false
    /// How many threads checksum, compress and write: 1 for the calling thread alone. Where writes mostly wait for the
    /// device, and this is more than 1, more threads may wait.
    public var concurrency = ThreadPool.processorCount
    /// The time to record, in seconds since 1970; `nil` for now.
    package var time: Double?
    /// The save id; `nil` for a random one. All ranks of one save must use the same.
    package var saveID: SaveID?
    /// Called from any writing thread with the number of tensor bytes just written; throwing stops the save.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(
        metrics: [String: Double] = [:], lineage: Lineage? = nil, compression: Compression = .none, replacing: Bool = false
    ) {
        self.metrics = metrics
        self.lineage = lineage
        self.compression = compression
        self.replacing = replacing
    }
}

/// The folder of a step in a store: `step-00000400/`.
package enum StepName {
    /// The prefix of every key of a step's checkpoint.
    package static func prefix(_ step: Int) -> String {
        let digits = String(step)
        return "step-" + String(repeating: "0", count: max(0, 8 - digits.utf8.count)) + digits + "/"
    }

    /// What beside the manifest tells how a snapshot was taken and saved; no part of the checkpoint.
    package static let timelineName = "timeline.json"

    /// What beside the manifest says that the checkpoint is not to be used; see ``Quarantine``.
    package static let quarantineName = "quarantine.json"

    /// What stands beside a checkpoint without being part of it.
    static let companionNames = [timelineName, quarantineName]

    /// The last component of a key.
    static func fileName(ofKey key: String) -> Substring {
        key[(key.lastIndex(of: "/").map(key.index(after:)) ?? key.startIndex)...]
    }

    /// The step that a key belongs to, or `nil` for a key that is not a checkpoint's.
    package static func step(ofKey key: String) -> Int? {
        guard key.hasPrefix("step-"), let slash = key.firstIndex(of: "/") else { return nil }
        let digits = key[key.index(key.startIndex, offsetBy: 5)..<slash]
        guard let step = Int(digits), step >= 0, key.hasPrefix(prefix(step)) else { return nil }
        return step
    }
}
