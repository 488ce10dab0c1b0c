public import CairnBase

extension LocalStorage {
    public func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try StorageKey.validate(prefix: prefix)
        var entries: [StorageEntry] = []
        // Only what lies below the prefix's last slash can match.
        let directory = prefix.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(prefix[..<$0]) }
        try collect(directory ?? "", prefix: prefix, into: &entries)
        return entries.sorted { StorageKey.precedes($0.key, $1.key) }
    }

    private func collect(
        _ directory: String, prefix: String, into entries: inout [StorageEntry]
    ) throws(CairnError) {
        let directoryPath = directory.isEmpty ? root : try path(of: directory)
        let found: [DirectoryEntry]
        do throws(SystemCallError) {
            found = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.entries(of: directoryPath) }
        } catch {
            if error.isMissing {
                if directory.isEmpty, let flaw = rootFlaw { throw flaw }
                return
            }
            throw error.explained("list", directoryPath)
        }
        for entry in found {
            let key = directory.isEmpty ? entry.name : directory + "/" + entry.name
            let mayMatch = StorageKey.has(key, prefix: prefix) || StorageKey.has(prefix, prefix: key + "/")
            guard mayMatch else { continue }
            if entry.kind == .directory {
                try collect(key, prefix: prefix, into: &entries)
                continue
            }
            let path = try path(of: key)
            let status: FileStatus
            do throws(SystemCallError) {
                status = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(at: path) }
            } catch {
                // Deleted since the directory was read, or a link to nowhere.
                if error.isMissing { continue }
                throw error.explained("list", path)
            }
            if status.kind == .directory && entry.kind == nil {
                try collect(key, prefix: prefix, into: &entries)
            } else if status.kind == .file, StorageKey.has(key, prefix: prefix) {
                // A link to a directory is not followed: it could lead around in a circle.
                entries.append(StorageEntry(key: key, byteCount: status.byteCount, modified: status.modified))
            }
        }
    }
}

/// What a reader reads a local storage through: one that repairs what is damaged. `nil` for itself.
package typealias ReadingStorage = @Sendable (LocalStorage) -> any Storage

extension LocalStorage {
    /// This storage, or what it is read through.
    package func read(through reading: ReadingStorage?) -> any Storage { reading?(self) ?? self }

    /// The names in its root, with those that are only there where it is read through another.
    package func names(
        _ names: [String], readingThrough reading: ReadingStorage?
    ) throws(CairnError) -> [String] {
        guard let reading else { return names }
        let found = try reading(self).list("").map(\.key).filter { !$0.utf8.contains(UInt8(ascii: "/")) }
        return Set((names + found).map(ExactString.init)).sorted().map(\.string)
    }

    /// The storage and the key of the file at a plain path, absolute or relative to the working directory: the file's
    /// directory is the root, its name the key. Throws `.invalidArgument` for a path that names no file.
    package static func locate(_ path: String) throws(CairnError) -> (storage: LocalStorage, key: String) {
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let key = slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path
        do {
            try StorageKey.validate(key)
        } catch {
            throw CairnError(.invalidArgument, "the path names no file", .init(found: path.debugDescription))
        }
        guard let slash else { return (LocalStorage(root: "."), key) }
        return (LocalStorage(root: slash == path.startIndex ? "/" : String(path[..<slash])), key)
    }

    /// Opens the file at a plain path for ranged reads. Throws `.notFound` when there is none.
    package static func open(path: String) throws(CairnError) -> any StorageFile {
        let (storage, key) = try locate(path)
        return try storage.open(key)
    }
}
