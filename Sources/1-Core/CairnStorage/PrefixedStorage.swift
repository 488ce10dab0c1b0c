package import CairnBase

/// The objects of another storage whose keys begin with a prefix, without it.
package struct PrefixedStorage: Storage {
    private let base: any Storage
    private let prefix: String

    /// - Parameter prefix: Ends with a slash.
    package init(_ base: any Storage, prefix: String) {
        self.base = base
        self.prefix = prefix
    }

    package var isLocal: Bool { base.isLocal }
    package var distinction: Distinction? { base.distinction }

    package func location(of key: String) -> String { base.location(of: prefix + key) }

    package func open(_ key: String) throws(CairnError) -> any StorageFile { try base.open(checked(key)) }

    package func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try base.create(checked(key), byteCount: byteCount)
    }

    package func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        try base.publish(bytes, as: checked(key))
    }

    package func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try StorageKey.validate(prefix: prefix)
        return try base.list(self.prefix + prefix).map {
            StorageEntry(
                key: String($0.key.dropFirst(self.prefix.count)), byteCount: $0.byteCount, modified: $0.modified)
        }
    }

    package func delete(_ keys: [String]) throws(CairnError) {
        var all: [String] = []
        for key in keys { all.append(try checked(key)) }
        try base.delete(all)
    }

    /// The key in the other storage. One that is none here must not become one there.
    private func checked(_ key: String) throws(CairnError) -> String {
        try StorageKey.validate(key)
        return prefix + key
    }
}
