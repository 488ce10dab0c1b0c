public import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as one file of `torch.save`, which `torch.load` reads with `weights_only=True`.
///
/// The state is nested as it was in the source where that says so; else it is one dictionary with every tensor and value
/// under its name. Tied tensors share a storage. Tensors are written as they come, so nothing is held in memory, and every
/// record has its checksum, which PyTorch does not look at and Cairn does.
public final class TorchWriter: CheckpointWriter {
    private let storage: any Storage
    private let key: String
    private let replaces: Bool
    private var stored: [TensorDescription] = []
    private var file: (any StorageWriter)?
    private var archive: TorchArchiveWriter?
    /// The tensor that comes next, how many of its bytes have come, and whether it has begun.
    private var position = 0
    private var byteCount = 0

    /// The folder within the archive.
    private static let prefix = "archive"

    /// Prepares to write to `key`, to which nothing happens before ``begin(tensors:values:structure:)``.
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

    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try begin(tensors: tensors, values: values, structure: nil)
    }

    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for tensors that PyTorch has no type
    ///   for.
    public func begin(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> [String] {
        guard file == nil else { throw wrongOrder("begin") }
        if !replaces, try storage.list(key).contains(where: { ExactString($0.key) == ExactString(key) }) {
            throw CairnError(
                .alreadyExists, "there is a file of this name",
                .init(file: storage.location(of: key), advice: "choose another name, or allow replacing it"))
        }
        stored = tensors.filter { $0.tiedTo == nil }
        let pickle: (bytes: [UInt8], isOrdered: Bool)
        do throws(CairnError) {
            pickle = try StatePickle.pickle(
                of: structure ?? StateNode(flat: tensors, values: values), tensors: Self.storages(of: tensors))
        } catch {
            throw error.adding(.init(file: storage.location(of: key)))
        }
        let total = stored.reduce(pickle.bytes.count) { $0 + $1.byteCount + 256 }
        let file = try storage.createStreamed(key, byteCount: total)
        self.file = file
        archive = try TorchArchiveWriter(
            file, prefix: Self.prefix, pickle: pickle.bytes, isOrdered: pickle.isOrdered)
        try beginStorages()
        return structure.map { StateLosses(of: $0, in: .torch).notes } ?? []
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

    /// Begins the storage of the next tensor that has bytes.
    private func beginStorages() throws(CairnError) {
        while position < stored.count {
            try archive?.beginStorage(byteCount: stored[position].byteCount)
            guard stored[position].byteCount == 0 else { return }
            position += 1
        }
    }

    public func append(_ bytes: RawSpan) throws {
        guard archive != nil else { throw wrongOrder("append") }
        var rest = 0..<bytes.byteCount
        while !rest.isEmpty {
            guard position < stored.count else {
                throw CairnError(.invalidArgument, "more bytes were written than the tensors have", .init(file: key))
            }
            let count = min(rest.count, stored[position].byteCount - byteCount)
            try archive?.append(bytes.extracting(rest.lowerBound..<rest.lowerBound + count))
            byteCount += count
            rest = rest.lowerBound + count..<rest.upperBound
            if byteCount == stored[position].byteCount {
                position += 1
                byteCount = 0
                try beginStorages()
            }
        }
    }

    public func finish() throws {
        guard let file, archive != nil else { throw wrongOrder("finish") }
        guard position == stored.count else {
            throw CairnError(
                .incomplete, "not all bytes of a tensor were written", .init(file: key, tensor: stored[position].name))
        }
        guard let byteCount = try archive?.finish() else { throw wrongOrder("finish") }
        try file.finish(byteCount: byteCount)
        archive = nil
    }

    public func discard() {
        archive = nil
        file?.discard()
    }

    private func wrongOrder(_ call: String) -> CairnError {
        CairnError(.invalidArgument, "\(call) was called before begin or after the end", .init(file: key))
    }
}
