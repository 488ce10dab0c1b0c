import Synchronization

/// Directories that were created but whose entries may not be on the device yet, shared by all writers of a storage.
final class UnsyncedDirectories: Sendable {
    private let paths = Mutex<Set<String>>([])

    func insert(_ path: String) { _ = paths.withLock { $0.insert(path) } }
    func remove(_ path: String) { _ = paths.withLock { $0.remove(path) } }

    /// Outermost first.
    var all: [String] {
        let snapshot = paths.withLock { $0 }
        return snapshot.sorted { ($0.utf8.count, $0) < ($1.utf8.count, $1) }
    }
}
