import CairnBase
import CairnStorage

/// Where the storages are that the tensors of a pickle are views of.
protocol TorchStorages {
    /// Whether the numbers in them begin with their most significant byte.
    var isBigEndian: Bool { get }

    /// The bytes of a storage, whose size must be what the pickle says.
    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile
}

/// What a bare pickle has: none.
struct NoStorages: TorchStorages {
    let file: String
    var isBigEndian: Bool { false }

    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile {
        throw CairnError(.malformed, "a bare pickle has no storages", .init(file: file))
    }
}
