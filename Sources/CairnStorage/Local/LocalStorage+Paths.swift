public import CairnBase

extension LocalStorage {
    /// The storage and the key of the file at a plain path, absolute or relative to the working directory: the file's
    /// directory is the root, its name the key. Throws `.invalidArgument` for a path that names no file.
    public static func locate(_ path: String) throws(CairnError) -> (storage: LocalStorage, key: String) {
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
    public static func open(path: String) throws(CairnError) -> any StorageFile {
        let (storage, key) = try locate(path)
        return try storage.open(key)
    }
}
