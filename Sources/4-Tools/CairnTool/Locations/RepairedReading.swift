import CairnBase
import CairnProtect
import CairnStorage

/// Reading files with parity beside them as they were: what is lost or damaged is rebuilt in memory, which is said on standard
/// error.
enum RepairedReading {
    /// A storage that repairs what it reads.
    ///
    /// - Parameter path: What the user can have repaired.
    static func storage(_ storage: LocalStorage, repairing path: String) -> any Storage {
        RepairedStorage(storage) { location in
            StandardError.note("repaired in memory: \(location) is lost or damaged; run cairn repair \(path)")
        }
    }

    /// What a checkpoint of another format is read through; `nil` where nothing protects it.
    ///
    /// - Parameters:
    ///   - path: What is opened.
    ///   - text: What the user named.
    static func reading(of path: String, as text: String) throws(CairnError) -> ReadingStorage? {
        try reading(of: path) { storage($0, repairing: text) }
    }

    /// The same with a storage of one's own.
    static func reading(of path: String, _ storage: @escaping ReadingStorage) throws(CairnError) -> ReadingStorage? {
        guard let kind = try PathInspection.kind(of: path) else { return nil }
        let directory = kind == .directory ? path : PathInspection.split(path).directory
        guard try PathInspection.names(in: directory).contains(where: Protection.isParity) else { return nil }
        return storage
    }
}
