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
        let all = try list()
        let summaries = all.filter(\.isCommitted)
        let readable = summaries.compactMap { row in row.manifest.map { (step: row.step, metrics: $0.metrics) } }
        var kept = policy.kept(readable).union(protecting)
        if let intact = try newestIntact(readable.map(\.step)) { kept.insert(intact) }
        var report = PruneReport()
        report.kept = summaries.map(\.step).filter(kept.contains)
        let deleted = summaries.filter { !kept.contains($0.step) }
        report.deleted = deleted.map(\.step)
        let leaving = Set(report.deleted)
        var needed = Set<String>()
        for row in all where !leaving.contains(row.step) { needed.formUnion(row.manifest?.neededKeys ?? []) }
        // Files that nothing else refers to, each once: several of the checkpoints that go may refer to one.
        var going: [String: Int] = [:]
        for row in deleted {
            report.freedByteCount += row.committedByteCount - (row.manifest?.byteCount ?? 0)
            for number in row.manifest?.fileNumbers ?? 0..<0 {
                guard let entry = row.manifest?.file(number), !needed.contains(entry.key) else { continue }
                going[entry.key] = entry.file.byteCount
            }
        }
        report.freedByteCount += going.values.reduce(0, +)
        let debris = try findDebris(olderThan: debrisAge, besides: needed.union(going.keys))
        report.debris = debris.map(\.key)
        report.freedByteCount += debris.reduce(0) { $0 + $1.byteCount }
        guard !dryRun, !report.deleted.isEmpty || !report.debris.isEmpty else { return report }
        let left = report.debris.filter(DeletionLock.isAny)
        if !left.isEmpty { try storage.delete(left) }
        let (steps, old) = (report.deleted, report.debris.filter { !DeletionLock.isAny($0) })
        guard !steps.isEmpty || !old.isEmpty else { return report }
        try DeletionLock.hold(storage) { lock throws(CairnError) in
            var candidates = old
            for step in steps {
                candidates += try removeManifest(step: step)
                try lock.renew()
            }
            let replaced = old.filter { RankFileName.isReplaced(StepName.fileName(ofKey: $0)) }
            if !replaced.isEmpty { try storage.delete(replaced) }
            let found = try NeededFiles(in: storage, olderThan: debrisAge)
            let unneeded = candidates.filter { !found.contains($0) }
            if !unneeded.isEmpty { try storage.delete(unneeded) }
        }
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

    /// Deletes the checkpoint of a step: its parity files and its manifest first, then the files that it named and that no other
    /// checkpoint refers to. So parity without a manifest tells that the manifest was lost. Other files of the step's folder
    /// stay, because a save may be running there; after a manifest that cannot be read, all go that are not of a checkpoint
    /// that was set aside.
    ///
    /// - Throws: What the storage throws, also where another process has been deleting for long.
    public func delete(step: Int) throws(CairnError) {
        try DeletionLock.hold(storage) { _ throws(CairnError) in
            let candidates = try removeManifest(step: step)
            guard !candidates.isEmpty else { return }
            let needed = try NeededFiles(in: storage)
            let unneeded = candidates.filter { !needed.contains($0) }
            if !unneeded.isEmpty { try storage.delete(unneeded) }
        }
    }

    /// Deletes parity and manifest of a checkpoint.
    ///
    /// - Returns: The keys of the files that it needed, and of what stands beside it.
    private func removeManifest(step: Int) throws(CairnError) -> [String] {
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
        guard let manifest else {
            let entries = try storage.list(prefix)
            guard let kept = try keptAside(entries, prefix: prefix) else { return [] }
            return entries.map(\.key).filter { !kept.contains($0) }
        }
        return manifest.neededKeys + StepName.companionNames.map { prefix + $0 }
    }

    /// Files of saves that never committed, and files that a committed checkpoint does not name. A save is one group, which
    /// goes as a whole; files whose names tell no save form another.
    ///
    /// - Parameter needed: What is not debris because checkpoints refer to it.
    private func findDebris(olderThan age: Double, besides needed: Set<String>) throws(CairnError) -> [StorageEntry] {
        let limit = currentTime() - age
        var folders: [Int: [StorageEntry]] = [:]
        for entry in try storage.list("step-") {
            if let step = StepName.step(ofKey: entry.key) { folders[step, default: []].append(entry) }
        }
        var debris = try DeletionLock.all(in: storage).filter { Double($0.modified) / 1e9 <= limit }
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
            let unnamed = entries.filter { !named.contains($0.key) && !needed.contains($0.key) }
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
