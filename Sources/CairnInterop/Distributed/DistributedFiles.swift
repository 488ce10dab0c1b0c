import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Synchronization

/// The data files of a distributed checkpoint and the items in them, each opened when it is first needed.
final class DistributedFiles: Sendable {
    typealias Place = DistributedMetadata.Place

    /// The elements of one chunk, and the records with checksums that they are in.
    struct Item: Sendable {
        var content: any TensorContent
        var records: [ZipRecord]
    }

    private let storage: any Storage
    private let prefix: String
    private let sizes: [ExactString: Int]
    private let files = Mutex<[ExactString: FileWindow]>([:])
    private let items = Mutex<[Place: Item]>([:])

    init(_ storage: any Storage, prefix: String) throws(CairnError) {
        self.storage = storage
        self.prefix = prefix
        var sizes: [ExactString: Int] = [:]
        for entry in try storage.list(prefix) { sizes[ExactString(entry.key)] = entry.byteCount }
        self.sizes = sizes
    }

    /// Throws unless the file is there and long enough.
    func check(_ place: Place) throws(CairnError) {
        let key = prefix + place.file
        do throws(CairnError) {
            try StorageKey.validate(key)
        } catch {
            throw CairnError(
                .malformed, "the metadata names a file outside the checkpoint",
                .init(file: place.file.debugDescription), cause: error)
        }
        guard let size = sizes[ExactString(key)] else {
            throw CairnError(
                .incomplete, "a file of the checkpoint is missing",
                .init(
                    file: storage.place(of: key),
                    advice: "copy all files of the directory, or take another checkpoint"))
        }
        guard let end = place.offset.adding(checked: place.byteCount), end <= size else {
            throw CairnError(
                .incomplete, "a file of the checkpoint is too short",
                .init(
                    file: storage.place(of: key), offset: place.offset, expected: "\(place.byteCount) bytes from there",
                    found: "a file of \(size) bytes"))
        }
    }

    private func file(_ name: String) throws(CairnError) -> FileWindow {
        let key = prefix + name
        if let file = files.withLock({ $0[ExactString(key)] }) { return file }
        let file = try FileWindow(storage, key)
        return files.withLock { files in
            let first = files[ExactString(key)] ?? file
            files[ExactString(key)] = first
            return first
        }
    }

    /// The bytes of an item as a file.
    func window(_ place: Place) throws(CairnError) -> FileWindow {
        try FileWindow(file(place.file), offset: place.offset, byteCount: place.byteCount)
    }

    /// The chunk at a place: the bytes of its elements, or a file of `torch.save` that holds just it.
    func item(_ place: Place, _ scalarType: ScalarType, _ shape: Shape) throws(CairnError) -> Item {
        if let item = items.withLock({ $0[place] }) { return item }
        let item: Item
        do throws(CairnError) {
            item = try open(place, scalarType, shape)
        } catch {
            throw error.moved(by: place.offset)
        }
        items.withLock { $0[place] = item }
        return item
    }

    private func open(_ place: Place, _ scalarType: ScalarType, _ shape: Shape) throws(CairnError) -> Item {
        let window = try window(place)
        // A zip archive is always longer than what it stores.
        if scalarType.byteCount(elementCount: shape.elementCount) == place.byteCount {
            return Item(
                content: StoredTensor(file: window, byteOffset: 0, scalarType: scalarType, shape: shape), records: [])
        }
        let contents = try TorchContents(window)
        guard contents.tensors.count == 1, let tensor = contents.tensors.first, tensor.path.isEmpty,
            tensor.content.scalarType == scalarType, tensor.content.shape == shape
        else {
            let found = contents.tensors.first.map { "\($0.content.scalarType)\($0.content.shape)" }
            throw CairnError(
                .mismatch, "an item is not the chunk that the metadata says",
                .init(
                    file: window.key, offset: 0, expected: "\(scalarType)\(shape)", found: found ?? "no tensor"))
        }
        return Item(content: tensor.content, records: contents.storages)
    }
}

extension CairnError {
    /// The same error about a part of a file with the offset counted from the file's beginning.
    func moved(by offset: Int) -> CairnError {
        guard [.corrupted, .malformed, .incomplete, .mismatch, .unsupported].contains(code) else { return self }
        var error = self
        error.context.offset = (context.offset ?? 0).adding(checked: offset)
        return error
    }
}
