public import CairnBase
import CairnStorage

/// One row of a store's listing.
public struct CheckpointSummary: Sendable {
    /// What the files of a step amount to.
    public enum State: Sendable {
        /// A checkpoint with a readable manifest.
        case committed
        /// Files without a manifest: a save that never ended, or is still running.
        case debris
        /// Files without a manifest that checkpoints of other steps refer to.
        case referenced
        /// There is a manifest, but it cannot be used, a file that it names is missing or of another length, or this process
        /// has found the data damaged.
        case damaged(CairnError)
        /// There is a manifest, and a restart found that the checkpoint cannot be used.
        case quarantined(Quarantine)
    }

    public var step: Int
    public var state: State
    /// The bytes of every file of the step.
    public var byteCount: Int
    /// The manifest, when it is readable.
    public var manifest: Manifest?
    /// How many checkpoints of the step saves have set aside; their bytes count in ``byteCount``.
    public var setAsideCount = 0
    /// Whether it is a checkpoint that nothing is known against.
    var isCommitted: Bool { if case .committed = state { true } else { false } }
    /// The bytes of the manifest, of the files that it names and of their parity; 0 when it is not readable.
    var committedByteCount = 0
}

extension CheckpointStore {
    /// Every step that has files, in ascending order, with what its manifest says. Reads the manifests alone, and
    /// quarantines.
    public func list() throws(CairnError) -> [CheckpointSummary] {
        var folders: [Int: [StorageEntry]] = [:]
        for entry in try storage.list("step-") {
            if let step = StepName.step(ofKey: entry.key) { folders[step, default: []].append(entry) }
        }
        var summaries: [CheckpointSummary] = []
        for (step, entries) in folders.sorted(by: { $0.key < $1.key }) { summaries.append(try summary(step, entries)) }
        let referenced = Set(summaries.flatMap { $0.manifest?.earlier.map(\.key) ?? [] })
        for index in summaries.indices {
            let entries = folders[summaries[index].step] ?? []
            if case .debris = summaries[index].state, entries.contains(where: { referenced.contains($0.key) }) {
                summaries[index].state = .referenced
            }
        }
        return summaries
    }

    private func summary(_ step: Int, _ entries: [StorageEntry]) throws(CairnError) -> CheckpointSummary {
        let prefix = StepName.prefix(step)
        let byteCount = entries.reduce(0) { $0 + $1.byteCount }
        var summary = CheckpointSummary(step: step, state: .debris, byteCount: byteCount, manifest: nil)
        summary.setAsideCount = entries.count { SetAside.isManifest($0.key.dropFirst(prefix.utf8.count)) }
        guard let stored = entries.first(where: { $0.key == prefix + CairnReader.manifestName }) else { return summary }
        let isMarked = entries.contains { $0.key == prefix + StepName.quarantineName }
        do throws(CairnError) {
            let manifest = try open(step: step).manifest
            summary.manifest = manifest
            let parity = Set(ParityFileName.keys(entries.map(\.key), prefix: prefix, of: manifest.saveID))
            let parityByteCount = entries.reduce(0) { parity.contains($1.key) ? $0.adding(clamped: $1.byteCount) : $0 }
            summary.committedByteCount = min(
                byteCount, (manifest.byteCount + stored.byteCount).adding(clamped: parityByteCount))
            let flaw = try manifest.flaw(entries, storage, prefix: prefix, isMarked: false)
            summary.state = flaw.map { .damaged($0) } ?? .committed
        } catch {
            // A storage that fails says nothing about the checkpoint.
            guard error.code.isUnusable else { throw error }
            summary.state = .damaged(error)
        }
        if isMarked, let quarantine = try quarantine(ofStep: step) { summary.state = .quarantined(quarantine) }
        return summary
    }

    /// The newest checkpoint that is usable as far as can be seen without reading its data: the manifest is readable, its files
    /// are all there with their lengths, and it is not in quarantine.
    ///
    /// - Returns: Its step, `nil` when there is none; and the newer ones, the newest first, each with what is wrong with it.
    /// - Throws: What a storage throws that cannot be read.
    public func newestUsable() throws(CairnError) -> (step: Int?, skipped: [Skipped]) { try newest(besides: nil) }

    /// The newest usable checkpoint of another step than this one.
    func newestUsable(besides step: Int) throws(CairnError) -> Int? { try newest(besides: step).step }

    private func newest(besides other: Int?) throws(CairnError) -> (step: Int?, skipped: [Skipped]) {
        var skipped: [Skipped] = []
        for (step, _) in try committedSteps().reversed() where step != other {
            let present = try PresentManifest(storage, prefix: StepName.prefix(step))
            guard present.exists else { continue }
            if let flaw = present.flaw {
                skipped.append(Skipped(step: step, error: flaw))
            } else if present.manifest == nil {
                skipped.append(
                    Skipped(
                        step: step,
                        error: CairnError(
                            .unsupported, "the manifest is of a newer version",
                            .init(file: storage.location(of: StepName.prefix(step))))))
            } else {
                return (step, skipped)
            }
        }
        return (nil, skipped)
    }
}

/// The manifest of a step as it is in the storage.
struct PresentManifest {
    var exists = false
    /// `nil` also when it cannot be read.
    private(set) var manifest: Manifest?
    /// As it is stored.
    private(set) var bytes: [UInt8] = []
    /// Whether a quarantine stands beside it.
    private(set) var isMarked = false
    /// The keys of its parity files.
    private(set) var parityKeys: [String] = []
    /// Why the checkpoint is unusable, if it is: a damaged manifest, a file that is missing or of another length, a
    /// quarantine, or what this process has found out when it loaded it.
    private(set) var flaw: CairnError?

    static let none = PresentManifest()

    private init() {}

    /// - Throws: What a storage throws that cannot be read: that says nothing about the checkpoint.
    init(_ storage: any Storage, prefix: String) throws(CairnError) {
        let key = prefix + CairnReader.manifestName
        let entries = try storage.list(prefix)
        isMarked = entries.contains { $0.key == prefix + StepName.quarantineName }
        guard entries.contains(where: { $0.key == key }) else { return }
        exists = true
        do throws(CairnError) {
            bytes = try storage.readAll(key, limit: Manifest.maximumByteCount)
            let found = try Manifest(parsing: bytes, file: storage.location(of: key))
            manifest = found
            parityKeys = ParityFileName.keys(entries.map(\.key), prefix: prefix, of: found.saveID)
            flaw = try found.flaw(entries, storage, prefix: prefix, isMarked: isMarked)
        } catch {
            switch error.code {
            case .notFound: exists = false
            // Another version's manifest is as good as ours.
            case .unsupported: break
            default:
                guard error.code.isUnusable else { throw error }
                flaw = error
            }
        }
    }

    /// Whether a save may take its place without having been told to replace it.
    var isInTheWay: Bool { exists && flaw == nil }

    /// Whether a save that takes its place keeps it under another name.
    var isWorthKeeping: Bool { exists && (flaw != nil || manifest == nil) }
}

extension Manifest {
    /// Why the checkpoint is unusable, as far as a listing of its folder tells, a quarantine, or what this process has found
    /// out about it.
    func flaw(
        _ entries: [StorageEntry], _ storage: any Storage, prefix: String, isMarked: Bool
    ) throws(CairnError) -> CairnError? {
        if isMarked, let quarantine = try Quarantine.read(storage, step: step), quarantine.isOf(saveID) {
            return quarantine.error(location: storage.location(of: prefix + StepName.quarantineName))
        }
        let sizes = Dictionary(entries.map { ($0.key, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
        for file in files {
            let found = sizes[prefix + file.name]
            guard found != file.byteCount else { continue }
            return CairnError(
                .incomplete, found == nil ? "a rank file is missing" : "a rank file has another length than the manifest says",
                .init(
                    file: storage.location(of: prefix + file.name), rank: file.rank, expected: "\(file.byteCount) bytes",
                    found: found.map { "\($0) bytes" } ?? "nothing", advice: "bring the file back, or use another checkpoint"))
        }
        for step in Set(earlier.map(\.step)) {
            let found = Dictionary(
                try storage.list(StepName.prefix(step)).map { ($0.key, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
            for entry in earlier where entry.step == step && found[entry.key] != entry.file.byteCount {
                return CairnError(
                    .incomplete, "a file of an earlier save, which the checkpoint refers to, is missing or of another length",
                    .init(
                        file: storage.location(of: entry.key), rank: entry.file.rank,
                        expected: "\(entry.file.byteCount) bytes of save \(entry.saveID)",
                        found: found[entry.key].map { "\($0) bytes" } ?? "nothing",
                        advice: "bring the file back, or use another checkpoint"))
            }
        }
        return KnownDamage.shared.error(of: saveID, step: step, in: storage)
    }
}

extension CairnError {
    /// The error of a save over a checkpoint that it may not replace.
    static func stepExists(_ location: String, _ step: Int) -> CairnError {
        CairnError(
            .alreadyExists, "there is a checkpoint of this step already",
            .init(
                file: location, found: "step \(step)",
                advice: "choose another step, delete it first, or allow to replace it (`replacing`, on the command line --force)")
        )
    }
}
