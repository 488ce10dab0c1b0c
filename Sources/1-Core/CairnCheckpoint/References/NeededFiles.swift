import CairnBase
import CairnStorage

/// The files of a store that checkpoints and saves in progress need, so that nobody may delete them.
///
/// Whoever deletes holds the ``DeletionLock``, has removed the manifests that are to go, and then looks here: at pins first and at
/// manifests afterwards. A save removes its pin only when its manifest is there, so one of the two is seen. One that publishes
/// its pin later looks for the checkpoint that it refers to afterwards: if that went, it takes another; if not, its manifest is
/// seen here and names the files.
struct NeededFiles {
    private var keys: Set<String> = []

    func contains(_ key: String) -> Bool { keys.contains(key) }

    /// - Parameter age: In seconds. A save of which no file has changed for so long is dead, and keeps nothing.
    /// - Throws: What cannot be read of a pin or of a manifest of a newer version: nothing may be deleted then.
    init(in storage: any Storage, olderThan age: Double = .infinity) throws(CairnError) {
        let limit = currentTime() - age
        let first = try storage.list("step-")
        var newest: [Substring: Int64] = [:]
        for entry in first {
            if let save = Self.save(entry.key) { newest[save] = max(newest[save] ?? 0, entry.modified) }
        }
        func isDead(_ entry: StorageEntry) -> Bool {
            let modified = max(entry.modified, Self.save(entry.key).flatMap { newest[$0] } ?? 0)
            return Double(modified) / 1e9 <= limit
        }
        for entry in first where RankFileName.isPin(StepName.fileName(ofKey: entry.key)) && !isDead(entry) {
            do throws(CairnError) {
                keys.formUnion(try SavePin(storage, key: entry.key).keys)
            } catch {
                // The save has ended: its manifest is there, or will never be.
                guard error.code == .notFound else { throw error }
            }
        }
        // A manifest that is replaced while this reads is seen under its other name by another look.
        var seen: Set<StorageEntry> = []
        while true {
            let entries = try storage.list("step-")
            let manifests = entries.filter { entry in
                let name = StepName.fileName(ofKey: entry.key)
                if RankFileName.isReplaced(name) { return !isDead(entry) }
                return name == CairnReader.manifestName || SetAside.isManifest(name)
            }
            guard !seen.isSuperset(of: manifests) else { return }
            for entry in manifests where seen.insert(entry).inserted { try add(entry.key, entries, storage) }
        }
    }

    /// What a manifest needs; of one that cannot be read, what its rank files say.
    private mutating func add(_ key: String, _ entries: [StorageEntry], _ storage: any Storage) throws(CairnError) {
        do throws(CairnError) {
            let bytes = try storage.readAll(key, limit: Manifest.maximumByteCount)
            keys.formUnion(try Manifest(parsing: bytes, file: storage.location(of: key)).neededKeys)
        } catch {
            if error.code == .notFound { return }
            guard error.code.isUnusable, error.code != .unsupported else { throw error }
            let folder = key.dropLast(StepName.fileName(ofKey: key).utf8.count)
            for entry in entries where entry.key.hasPrefix(folder) && !entry.isTemporary && entry.key.hasSuffix(".safetensors") {
                guard let file = try? RankFile.open(storage.open(entry.key), location: entry.key, expected: nil) else { continue }
                keys.insert(entry.key)
                keys.formUnion(file.metadata.reused.map(\.file.key))
            }
        }
    }

    /// What tells the files of one save of one step from others.
    private static func save(_ key: String) -> Substring? {
        let name = StepName.fileName(ofKey: key)
        return RankFileName.saveDigits(ofName: name).map { key.dropLast(name.count) + $0 }
    }
}
