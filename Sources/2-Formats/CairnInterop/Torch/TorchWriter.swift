public import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as one file of `torch.save`, which `torch.load` reads with `weights_only=True`.
///
/// The state is nested as it was in the source where that says so; else it is one dictionary with every tensor and value
/// under its name. Tied tensors share a storage. Tensors are written as they come, so nothing is held in memory, and every
/// record has its checksum, which PyTorch does not look at and Cairn does.
public final class TorchWriter: TensorStreamWriter {
    private let storage: any Storage
    private let key: String
    private let replaces: Bool
    private var stored: [TensorDescription] = []
    private var file: (any StorageWriter)?
    private var archive: TorchArchiveWriter?
    package var stream = TensorStream()
    package var destination: String { storage.location(of: key) }

    /// The folder within the archive.
    private static let prefix = "archive"

    /// Prepares to write to `key`, to which nothing happens before it begins.
    ///
    /// - Parameter replaces: Whether a file of that name may be there; it is replaced when the new one is whole.
    public init(storage: any Storage, key: String, replaces: Bool = false) {
        self.storage = storage
        self.key = key
        self.replaces = replaces
    }

    /// Prepares to write to a plain path.
    public convenience init(path: String, replaces: Bool = false) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        self.init(storage: storage, key: key, replaces: replaces)
    }

    deinit { discard() }

    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for tensors that PyTorch has no type
    ///   for.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        if !replaces { try storage.refuseExisting(key) }
        stored = tensors.filter { $0.tiedTo == nil }
        let pickle: (bytes: [UInt8], isOrdered: Bool)
        do throws(CairnError) {
            pickle = try StatePickle.pickle(
                of: structure ?? StateNode(flat: tensors, values: values), tensors: Self.storages(of: tensors))
        } catch {
            throw error.adding(.init(file: destination))
        }
        let total = stored.reduce(pickle.bytes.count) { $0 + $1.byteCount + 256 }
        let file = try storage.createStreamed(key, byteCount: total)
        self.file = file
        archive = try TorchArchiveWriter(
            file, prefix: Self.prefix, pickle: pickle.bytes, isOrdered: pickle.isOrdered)
        return .init(tensors: tensors, notes: StateNode.losses(of: structure, in: .torch))
    }

    /// Every tensor with the number of its storage.
    private static func storages(of tensors: [TensorDescription]) throws(CairnError) -> [StatePickle.Stored] {
        var numbers: [ExactString: Int] = [:]
        for tensor in tensors where tensor.tiedTo == nil { numbers[ExactString(tensor.name)] = numbers.count }
        var all: [StatePickle.Stored] = []
        for tensor in tensors {
            guard let number = numbers[ExactString(tensor.tiedTo ?? tensor.name)] else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(tensor: tensor.name, expected: tensor.tiedTo))
            }
            all.append(.init(description: tensor, storage: number))
        }
        return all
    }

    package func beginItem(_ item: Int) throws { try archive?.beginStorage(byteCount: stored[item].byteCount) }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws { try archive?.append(bytes) }

    package func close() throws {
        guard let file, let byteCount = try archive?.finish() else { return }
        try file.finish(byteCount: byteCount)
    }

    package func abandon() { file?.discard() }
}

/// Writes one zip file of `torch.save`: the pickle first, then the storages one after the other, then what PyTorch puts
/// at the end.
///
/// Source: `_save` in `torch/serialization.py` of PyTorch 2.13.
struct TorchArchiveWriter {
    private let zip: ZipWriter
    private let prefix: String
    private var storageCount = 0
    /// Of everything written, for the identification at the end.
    private var checksum: UInt32 = 0

    /// Begins the file at `base` with its pickle.
    ///
    /// - Parameters:
    ///   - prefix: The folder within the archive, without a slash.
    ///   - isOrdered: Whether the pickle names the storages in the order in which they come. Only then a reader may
    ///     compute where they are, which a version of the format tells it.
    init(
        _ file: any StorageWriter, at base: Int = 0, prefix: String, pickle: [UInt8], isOrdered: Bool = true
    ) throws(CairnError) {
        zip = ZipWriter(file, at: base)
        self.prefix = prefix
        try add("data.pkl", pickle)
        if isOrdered { try add(".format_version", Array("1".utf8)) }
        try add(".storage_alignment", Array("64".utf8))
        try add("byteorder", Array("little".utf8))
    }

    private mutating func add(_ name: String, _ bytes: [UInt8]) throws(CairnError) {
        checksum = CRC32.combine(checksum, CRC32.checksum(bytes.span.bytes), secondByteCount: bytes.count)
        try zip.add(prefix + "/" + name, bytes)
    }

    /// Begins the next storage; its key is its number.
    mutating func beginStorage(byteCount: Int) throws(CairnError) {
        try zip.begin("\(prefix)/data/\(storageCount)", byteCount: byteCount)
        storageCount += 1
    }

    /// Appends bytes of the storage begun last.
    mutating func append(_ bytes: RawSpan) throws(CairnError) { try zip.append(bytes) }

    /// - Returns: The size of the whole file in bytes.
    mutating func finish() throws(CairnError) -> Int {
        try add("version", Array("3\n".utf8))
        // Forty digits that tell files apart; PyTorch derives them from names and checksums and never checks them.
        let digits = String(checksum)
        try add(
            ".data/serialization_id",
            Array((String(repeating: "0", count: 40 - digits.utf8.count) + digits).utf8))
        return try zip.finish()
    }
}
