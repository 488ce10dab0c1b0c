import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Synchronization

/// The data files of a distributed checkpoint and the items in them, each opened when it is first needed.
final class DistributedFiles: Sendable {
    typealias Location = DistributedMetadata.Location

    /// What PyTorch calls items that are compressed as a whole.
    static let zstd = "stream.zstd/1"
    /// The most bytes that an item may have beyond its elements.
    private static let greatestOverhead = 1 << 20
    /// More than zstd expands anything by: the longest block is 128 KiB, the shortest form of one four bytes.
    private static let greatestExpansion = 1 << 15
    /// How many bytes of expanded items are kept, beside the one that is in use.
    private static let keptByteCount = 64 << 20

    /// The elements of one chunk, and the records with checksums that they are in.
    struct Item: Sendable {
        var content: any TensorView
        var records: [ZipRecord]
    }

    /// An item that was expanded in memory.
    private struct Expanded {
        var location: Location
        var item: Item
        var byteCount: Int
    }

    /// The place of a chunk; the tensor tells those apart that have one place, as in safetensors.
    private struct ItemKey: Hashable {
        var location: Location
        var tensor: ExactString
        var offsets: [Int]
    }

    private let storage: any Storage
    private let prefix: String
    private let sizes: [ExactString: Int]
    private let files = Mutex<[ExactString: FileWindow]>([:])
    private let items = Mutex<[ItemKey: Item]>([:])
    /// The one that was used last comes last.
    private let expanded = Mutex<[Expanded]>([])
    private let headers = Mutex<[Location: SafeTensorsHeader?]>([:])
    /// Where chunks of several sizes begin together, which only those of safetensors do.
    private let sharedStarts: Set<Location>

    /// - Parameter tensors: What the metadata says is in the files.
    init(_ storage: any Storage, prefix: String, of tensors: [DistributedMetadata.Tensor]) throws(CairnError) {
        var first: [Location: Int] = [:]
        var shared: Set<Location> = []
        for location in tensors.lazy.flatMap({ $0.pieces.map(\.location) }) {
            let start = Self.start(location)
            if let other = first.updateValue(location.byteCount, forKey: start), other != location.byteCount {
                shared.insert(start)
            }
        }
        sharedStarts = shared
        self.storage = storage
        self.prefix = prefix
        var sizes: [ExactString: Int] = [:]
        for entry in try storage.list(prefix) { sizes[ExactString(entry.key)] = entry.byteCount }
        self.sizes = sizes
    }

    /// Throws unless the file is there and long enough.
    func check(_ location: Location) throws(CairnError) {
        let key = prefix + location.file
        do throws(CairnError) {
            try StorageKey.validate(key)
        } catch {
            throw CairnError(
                .malformed, "the metadata names a file outside the checkpoint",
                .init(file: location.file.debugDescription), cause: error)
        }
        guard let size = sizes[ExactString(key)] else {
            throw CairnError(
                .incomplete, "a file of the checkpoint is missing",
                .init(
                    file: storage.location(of: key),
                    advice: "copy all files of the directory, or take another checkpoint"))
        }
        guard let end = location.offset.adding(checked: location.byteCount), end <= size else {
            throw CairnError(
                .incomplete, "a file of the checkpoint is too short",
                .init(
                    file: storage.location(of: key), offset: location.offset, expected: "\(location.byteCount) bytes from there",
                    found: "a file of \(size) bytes"))
        }
    }

    /// Throws when an item is too short for the elements that it should hold.
    func check(_ location: Location, holds region: Region, of scalarType: ScalarType) throws(CairnError) {
        guard let byteCount = scalarType.byteCount(elementCount: region.elementCount),
            byteCount / (location.transforms.isEmpty ? 1 : Self.greatestExpansion) <= location.byteCount
        else {
            throw CairnError(
                .malformed, "the item is too short for its elements",
                .init(
                    file: storage.location(of: prefix + location.file), offset: location.offset,
                    expected: "\(scalarType)\(region.shape)", found: "\(location.byteCount) bytes"))
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
    ///
    /// - Parameter limit: The most bytes that it may expand to if it is compressed.
    func window(_ location: Location, limit: Int) throws(CairnError) -> any StorageFile {
        let window = try FileWindow(file(location.file), offset: location.offset, byteCount: location.byteCount)
        guard !location.transforms.isEmpty else { return window }
        var expanded: any StorageFile = window
        for _ in location.transforms {
            expanded = try ZstdFile.expanding(expanded, limit: limit, name: window.key)
        }
        return expanded
    }

    /// The chunk at a location: the bytes of its elements, a file of `torch.save` that holds just it, or one of the tensors
    /// of a safetensors file.
    func item(_ location: Location, of tensor: DistributedMetadata.Tensor, _ region: Region) throws(CairnError) -> Item {
        let key = ItemKey(location: location, tensor: ExactString(tensor.name), offsets: region.offsets)
        if let item = items.withLock({ $0[key] }) { return item }
        do throws(CairnError) {
            guard location.transforms.isEmpty else { return try expandedItem(location, tensor, region) }
            let item = try open(window(location, limit: 0), location, tensor, region)
            items.withLock { $0[key] = item }
            return item
        } catch {
            throw error.moved(to: location)
        }
    }

    private func expandedItem(
        _ location: Location, _ tensor: DistributedMetadata.Tensor, _ region: Region
    ) throws(CairnError) -> Item {
        let known = expanded.withLock { expanded -> Item? in
            guard let position = expanded.firstIndex(where: { $0.location == location }) else { return nil }
            let found = expanded.remove(at: position)
            expanded.append(found)
            return found.item
        }
        if let known { return known }
        let byteCount = tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0
        let window = try window(location, limit: byteCount.adding(checked: Self.greatestOverhead) ?? byteCount)
        let item = try open(window, location, tensor, region)
        expanded.withLock { expanded in
            expanded.append(Expanded(location: location, item: item, byteCount: window.byteCount))
            var total = expanded.reduce(0) { $0 + $1.byteCount }
            while total > Self.keptByteCount, expanded.count > 1 { total -= expanded.removeFirst().byteCount }
        }
        return item
    }

    private func open(
        _ window: any StorageFile, _ location: Location, _ tensor: DistributedMetadata.Tensor, _ region: Region
    ) throws(CairnError) -> Item {
        let scalarType = tensor.scalarType, shape = region.shape
        // A zip archive is always longer than what it stores.
        if scalarType.byteCount(elementCount: shape.elementCount) == window.byteCount {
            if location.transforms.isEmpty, let header = try safetensors(location) {
                return try item(in: header, location, tensor, region)
            }
            return Item(
                content: FileTensor(file: window, byteOffset: 0, scalarType: scalarType, shape: shape), records: [])
        }
        let contents = try TorchContents(window)
        guard contents.tensors.count == 1, let found = contents.tensors.first, found.path.isEmpty,
            found.content.scalarType == scalarType, found.content.shape == shape
        else {
            let found = contents.tensors.first.map { "\($0.content.scalarType)\($0.content.shape)" }
            throw otherChunk(window.key, expected: "\(scalarType)\(shape)", found: found ?? "no tensor")
        }
        return Item(content: found.content, records: contents.storages)
    }

    private func otherChunk(_ file: String, expected: String, found: String) -> CairnError {
        CairnError(
            .mismatch, "an item is not the chunk that the metadata says",
            .init(file: file, offset: 0, expected: expected, found: found))
    }

    // MARK: Files of safetensors with a metadata file beside them

    /// The header of the safetensors that begin at an offset and continue to the end of the file: the metadata then gives all
    /// tensors of the file one place. `nil` where something else begins.
    private func safetensors(_ location: Location) throws(CairnError) -> SafeTensorsHeader? {
        let start = Self.start(location)
        if let known = headers.withLock({ $0[start] }) { return known }
        let header = try readSafetensors(location)
        guard header != nil || !sharedStarts.contains(start) else { throw cutHeader(try rest(of: location).key) }
        headers.withLock { $0[start] = .some(header) }
        return header
    }

    /// Whether the tensors at this place are told apart by their names.
    func isSafetensors(_ location: Location) throws(CairnError) -> Bool {
        guard location.transforms.isEmpty else { return false }
        return try safetensors(location) != nil
    }

    private func readSafetensors(_ location: Location) throws(CairnError) -> SafeTensorsHeader? {
        let rest = try rest(of: location)
        guard rest.byteCount > 9 else { return nil }
        let beginning = try rest.bytes(in: 0..<9)
        guard let length = ByteReader(bytes: beginning).u64(at: 0), beginning[8] == UInt8(ascii: "{") else { return nil }
        guard length <= rest.byteCount - 8 else {
            if try beginsLikeHeader(rest, length: length) { throw cutHeader(rest.key) }
            return nil
        }
        do throws(CairnError) {
            let header = try SafeTensorsHeader.read(from: rest)
            return header.metadata(ShardedSafeTensors.informationKey) == nil ? nil : header
        } catch {
            // Elements that happen to begin like a header.
            guard error.code == .malformed || error.code == .unsupported else { throw error }
            return nil
        }
    }

    private static func start(_ location: Location) -> Location {
        var start = location
        start.byteCount = 0
        return start
    }

    /// Whether a file begins as PyTorch's headers do, but ends before the header does.
    private func beginsLikeHeader(_ rest: FileWindow, length: Int) throws(CairnError) -> Bool {
        guard length <= SafeTensorsHeader.greatestByteCount else { return false }
        let expected = Array("{\"__metadata__\":{\"".utf8)
        return try rest.bytes(in: 8..<min(rest.byteCount, 8 + expected.count)).elementsEqual(expected.prefix(rest.byteCount - 8))
    }

    private func cutHeader(_ file: String) -> CairnError {
        CairnError(
            .incomplete, "the file does not have the header of the tensors that it should hold",
            .init(file: file, offset: 0, advice: "copy the file again, or take another checkpoint"))
    }

    private func rest(of location: Location) throws(CairnError) -> FileWindow {
        let file = try file(location.file)
        return try FileWindow(file, offset: location.offset, byteCount: file.byteCount - location.offset)
    }

    private func item(
        in header: SafeTensorsHeader, _ location: Location, _ tensor: DistributedMetadata.Tensor, _ region: Region
    ) throws(CairnError) -> Item {
        let rest = try rest(of: location)
        guard let entry = header.entries.first(where: { ExactString($0.name) == ExactString(tensor.name) }),
            entry.scalarType == tensor.scalarType, entry.shape == region.shape
        else {
            throw otherChunk(rest.key, expected: "\(tensor.scalarType)\(region.shape)", found: "another tensor or none")
        }
        // PyTorch keeps only the last of several chunks of one tensor in a file.
        let offsets = try ShardedSafeTensors.offsets(in: header, file: rest.key)[ExactString(tensor.name)]
        guard offsets == nil || tensor.scalarType.isPacked || offsets == region.offsets else {
            throw otherChunk(rest.key, expected: "\(region.offsets)", found: "\(offsets ?? [])")
        }
        return Item(
            content: FileTensor(
                file: rest, byteOffset: header.dataStart + entry.byteRange.lowerBound, scalarType: entry.scalarType,
                shape: entry.shape), records: [])
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

    /// The same error about an item with its place in the file; within a compressed one that is where it begins.
    func moved(to location: DistributedMetadata.Location) -> CairnError {
        guard !location.transforms.isEmpty else { return moved(by: location.offset) }
        var error = self
        error.context.offset = location.offset
        return error
    }
}
