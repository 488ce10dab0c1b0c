public import CairnBase
import CairnStorage

/// Which checkpoints of a run are kept. One that any rule keeps stays.
public struct RetentionPolicy: Sendable, Hashable {
    /// Keeps this many of the newest.
    public var keepLast: Int?
    /// Keeps those whose step is a multiple of this.
    public var keepEvery: Int?
    /// Keeps this many with the best value of ``bestMetric``.
    public var keepBest: Int?
    /// The metric that decides what is best. A checkpoint without it is never among the best.
    public var bestMetric = "loss"
    /// Whether a larger metric is better.
    public var largerIsBetter = false

    /// A policy without a rule keeps everything.
    public init(
        keepLast: Int? = nil, keepEvery: Int? = nil, keepBest: Int? = nil, by bestMetric: String = "loss",
        largerIsBetter: Bool = false
    ) {
        self.keepLast = keepLast
        self.keepEvery = keepEvery
        self.keepBest = keepBest
        self.bestMetric = bestMetric
        self.largerIsBetter = largerIsBetter
    }

    /// The steps to keep. The newest is always kept, whatever the rules say.
    func kept(_ checkpoints: [(step: Int, metrics: [String: Double])]) -> Set<Int> {
        let steps = checkpoints.map(\.step).sorted()
        if keepLast == nil, keepEvery == nil, keepBest == nil { return Set(steps) }
        var kept = Set(steps.suffix(max(1, keepLast ?? 1)))
        if let keepEvery, keepEvery > 0 { kept.formUnion(steps.filter { $0 % keepEvery == 0 }) }
        if let keepBest {
            let ranked =
                checkpoints
                .compactMap { row in row.metrics[bestMetric].map { (step: row.step, value: $0) } }
                .filter { !$0.value.isNaN }
                .sorted { largerIsBetter ? $0.value > $1.value : $0.value < $1.value }
            kept.formUnion(ranked.prefix(max(0, keepBest)).map(\.step))
        }
        return kept
    }
}

/// What a retention run did, or would do.
public struct PruneReport: Sendable {
    /// The steps that stay, ascending.
    public var kept: [Int] = []
    /// The steps whose checkpoints go, ascending.
    public var deleted: [Int] = []
    /// The keys of debris that goes.
    public var debris: [String] = []
    /// The bytes that are freed.
    public var freedByteCount = 0
}

extension CheckpointStore {
    /// Deletes the checkpoints that `policy` does not keep, and debris.
    ///
    /// A checkpoint goes manifest first, durably, so that a crash on the way leaves debris and no half checkpoint. One whose
    /// manifest is damaged, or which lacks a file, neither counts for a rule nor is deleted: it may be repairable. Nor does one
    /// in quarantine, until a person has looked at it. Whatever the rules say, the newest other checkpoint whose files are all
    /// there with intact headers is kept.
    ///
    /// - Parameters:
    ///   - protecting: Steps that stay whatever the rules say, because they are being read.
    ///   - debrisAge: Debris is deleted only if its newest file is older than this many seconds, because a save that is
    ///     running in another process looks the same.
    ///   - dryRun: Only report.
    public func prune(
        _ policy: RetentionPolicy, protecting: Set<Int> = [], debrisAge: Double = 3600, dryRun: Bool = false
    ) throws(CairnError) -> PruneReport {
        let summaries = try list().filter(\.isCommitted)
        let readable = summaries.compactMap { row in row.manifest.map { (step: row.step, metrics: $0.metrics) } }
        var kept = policy.kept(readable).union(protecting)
        if let intact = try newestIntact(readable.map(\.step)) { kept.insert(intact) }
        var report = PruneReport()
        for row in summaries {
            if kept.contains(row.step) {
                report.kept.append(row.step)
            } else {
                report.deleted.append(row.step)
                report.freedByteCount += row.committedByteCount
            }
        }
        let debris = try findDebris(olderThan: debrisAge)
        report.debris = debris.map(\.key)
        report.freedByteCount += debris.reduce(0) { $0 + $1.byteCount }
        guard !dryRun else { return report }
        for step in report.deleted { try delete(step: step) }
        if !report.debris.isEmpty { try storage.delete(report.debris) }
        return report
    }

    /// The newest of `steps` whose files are all there, of the right length and with intact headers.
    private func newestIntact(_ steps: [Int]) throws(CairnError) -> Int? {
        for step in steps.sorted(by: >) {
            let damages = try open(step: step).verify(deep: false).damages
            if damages.isEmpty { return step }
            // Nothing is deleted by what a failing storage says.
            if let trouble = damages.first(where: { !$0.error.code.isUnusable }) { throw trouble.error }
        }
        return nil
    }

    /// Deletes the checkpoint of a step: its parity files and its manifest first, then the files that it named. So parity without
    /// a manifest tells that the manifest was lost. Other files of the step's folder stay, because a save may be running there; after a manifest that cannot be read, all go that are not of a checkpoint
    /// that was set aside.
    public func delete(step: Int) throws(CairnError) {
        let prefix = StepName.prefix(step)
        let manifest: Manifest?
        do throws(CairnError) {
            manifest = try open(step: step).manifest
        } catch {
            // A storage that cannot be read says nothing about whose files these are.
            guard error.code.isUnusable else { throw error }
            manifest = nil
        }
        if let manifest {
            let parity = ParityFileName.keys(
                try storage.list(prefix + ParityFileName.beginning).map(\.key), prefix: prefix, of: manifest.saveID)
            if !parity.isEmpty { try storage.delete(parity) }
        }
        try storage.delete([prefix + CairnReader.manifestName])
        let rest: [String]
        if let manifest {
            rest = (manifest.files.map(\.name) + StepName.companionNames).map { prefix + $0 }
        } else {
            let entries = try storage.list(prefix)
            guard let kept = try keptAside(entries, prefix: prefix) else { return }
            rest = entries.map(\.key).filter { !kept.contains($0) }
        }
        if !rest.isEmpty { try storage.delete(rest) }
    }

    /// Files of saves that never committed, and files that a committed checkpoint does not name. A save is one group, which
    /// goes as a whole; files whose names tell no save form another.
    private func findDebris(olderThan age: Double) throws(CairnError) -> [StorageEntry] {
        let limit = currentTime() - age
        var folders: [Int: [StorageEntry]] = [:]
        for entry in try storage.list("step-") {
            if let step = StepName.step(ofKey: entry.key) { folders[step, default: []].append(entry) }
        }
        var debris: [StorageEntry] = []
        for (step, entries) in folders {
            let prefix = StepName.prefix(step)
            var named = Set<String>()
            if entries.contains(where: { $0.key == prefix + CairnReader.manifestName }) {
                // Without a readable manifest it is not known what is debris.
                let manifest: Manifest
                do throws(CairnError) {
                    manifest = try open(step: step).manifest
                } catch {
                    guard error.code.isUnusable else { throw error }
                    continue
                }
                let names = manifest.files.map(\.name) + [CairnReader.manifestName] + StepName.companionNames
                named = Set(names.map { prefix + $0 })
                named.formUnion(ParityFileName.keys(entries.map(\.key), prefix: prefix, of: manifest.saveID))
            }
            guard let kept = try keptAside(entries, prefix: prefix) else { continue }
            named.formUnion(kept)
            let unnamed = entries.filter { !named.contains($0.key) }
            let saves = Dictionary(grouping: unnamed) { RankFileName.saveDigits(ofName: $0.key.dropFirst(prefix.count)) }
            let hasManifest = entries.contains { $0.key == prefix + CairnReader.manifestName }
            for files in saves.values where files.allSatisfy({ Double($0.modified) / 1e9 <= limit }) {
                // Parity is written after a commit and deleted before the manifest: this one lost its manifest, and parity has it.
                let hasParity = files.contains { ParityFileName.parse($0.key.dropFirst(prefix.count)) != nil }
                if hasManifest || !hasParity { debris += files }
            }
        }
        return debris.sorted { StorageKey.precedes($0.key, $1.key) }
    }

    /// The keys that belong to what saves have set aside in a folder; `nil` where that cannot be told, so that any file may.
    private func keptAside(_ entries: [StorageEntry], prefix: String) throws(CairnError) -> Set<String>? {
        var kept = Set<String>()
        for entry in entries {
            let name = entry.key.dropFirst(prefix.utf8.count)
            guard SetAside.isOwn(name) else { continue }
            kept.insert(entry.key)
            guard SetAside.isManifest(name) else { continue }
            do throws(CairnError) {
                let bytes = try storage.readAll(entry.key, limit: Manifest.maximumByteCount)
                let manifest = try Manifest(parsing: bytes, file: entry.key)
                kept.formUnion(manifest.files.map { prefix + $0.name })
                kept.formUnion(ParityFileName.keys(entries.map(\.key), prefix: prefix, of: manifest.saveID))
            } catch {
                guard error.code.isUnusable else { throw error }
                return nil
            }
        }
        return kept
    }
}
