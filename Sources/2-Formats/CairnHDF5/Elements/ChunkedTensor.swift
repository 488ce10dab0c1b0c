import CHDF5
import CHDF5Calls
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import Synchronization

/// A tensor that is stored in chunks, whose filters are undone here.
///
/// HDF5 finds and reads the stored bytes of a chunk, one thread at a time; expanding goes on beside it.
struct ChunkedTensor: TensorView {
    let file: HDF5File
    let path: String
    let scalarType: ScalarType
    /// The tensor's shape, dimensions inside of elements included.
    let shape: Shape
    /// The shape of a chunk, with as many dimensions.
    let chunk: Shape
    /// The dimensions that HDF5 knows; those behind are whole in each chunk.
    let outerCount: Int
    let filters: ChunkFilters
    /// Whether chunks that reach beyond the tensor are stored without filters.
    let leavesEdgesPlain: Bool
    let fill: ElementFill
    let cache: ChunkCache
    /// Where the chunks are, if HDF5 cannot tell.
    let index: ChunkIndex?

    var hasChecksums: Bool { filters.filters.contains { $0.id == ChunkFilters.fletcher32 } }

    private var chunkByteCount: Int { scalarType.byteCount(elementCount: chunk.elementCount) ?? 0 }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let dataset = try file.dataset(path)
        let first = zip(region.offsets, chunk.extents).map { $0 / $1 }
        let last = zip(zip(region.offsets, region.shape.extents), chunk.extents).map { ($0.0 + $0.1 - 1) / $1 }
        var index = first
        while true {
            let origin = zip(index, chunk.extents).map { $0 * $1 }
            let box = try Region(offsets: origin, shape: chunk)
            if let common = box.intersection(region) {
                let local = common.relative(to: region.offsets)
                if let bytes = try self.bytes(at: origin, of: dataset.id) {
                    try RegionCopy.copy(
                        scalarType, from: bytes.span.bytes, of: chunk, region: common.relative(to: origin),
                        into: &destination, of: region.shape, region: local)
                } else {
                    let absent = FilledTensor(scalarType: scalarType, shape: shape, outerCount: outerCount, fill: fill)
                    if common.shape == region.shape { return try absent.read(region, into: &destination) }
                    var bytes = [UInt8](repeating: 0, count: scalarType.byteCount(elementCount: common.elementCount) ?? 0)
                    var span = bytes.mutableSpan
                    var raw = span.mutableBytes
                    try absent.read(common, into: &raw)
                    try RegionCopy.copy(
                        scalarType, from: bytes.span.bytes, of: common.shape, region: Region(whole: common.shape),
                        into: &destination, of: region.shape, region: local)
                }
            }
            var dimension = index.count - 1
            while dimension >= 0 {
                index[dimension] += 1
                if index[dimension] <= last[dimension] { break }
                index[dimension] = first[dimension]
                dimension -= 1
            }
            if dimension < 0 { return }
        }
    }

    /// The elements of a chunk, `nil` when it was never written.
    private func bytes(at origin: [Int], of dataset: hid_t) throws(CairnError) -> [UInt8]? {
        if let bytes = cache.bytes(of: path, at: origin) { return bytes }
        let (stored, mask) = try self.stored(at: origin, of: dataset)
        guard let stored else { return nil }
        let bytes: [UInt8]
        do throws(CairnError) {
            bytes = try filters.undo(stored, mask: mask, byteCount: chunkByteCount)
        } catch {
            throw error.adding(.init(file: file.bytes.key, tensor: path, found: "the chunk at \(origin)"))
        }
        cache.keep(bytes, of: path, at: origin)
        return bytes
    }

    /// The bytes of a chunk as they are in the file, `nil` when it was never written.
    private func stored(at origin: [Int], of dataset: hid_t) throws(CairnError) -> ([UInt8]?, UInt32) {
        let offset = origin.prefix(outerCount).map { hsize_t($0) }
        if let index { return try stored(at: origin, by: index) }
        let isEdge = zip(origin, zip(chunk.extents, shape.extents)).contains { $0 + $1.0 > $1.1 }
        return try HDF5Library.run { () throws(CairnError) -> ([UInt8]?, UInt32) in
            var byteCount: hsize_t = 0
            guard cairn_h5_chunk_size(dataset, offset, &byteCount) >= 0 else {
                throw file.blame(HDF5Library.failure("find a chunk", .init(tensor: path)))
            }
            guard byteCount > 0 else { return (nil, 0) }
            guard let size = Int(exactly: byteCount), size <= file.bytes.byteCount,
                size <= ChunkFilters.greatestStoredByteCount(chunkByteCount)
            else { throw tooLarge(Int(clamping: byteCount)) }
            var bytes = [UInt8](repeating: 0, count: size)
            var mask: UInt32 = 0
            let status = bytes.withUnsafeMutableBytes { memory in
                file.reading(into: memory) { H5Dread_chunk(dataset, defaultProperties, offset, &mask, $0) }
            }
            guard status >= 0 else {
                throw file.blame(HDF5Library.failure("read a chunk", .init(tensor: path)))
            }
            return (bytes, leavesEdgesPlain && isEdge ? .max : mask)
        }
    }

    private func stored(at origin: [Int], by index: ChunkIndex) throws(CairnError) -> ([UInt8]?, UInt32) {
        let scaled = zip(origin, chunk.extents).prefix(outerCount).map { $0 / $1 }
        guard let entry = index.entry(at: scaled) else { return (nil, 0) }
        guard entry.byteCount <= ChunkFilters.greatestStoredByteCount(chunkByteCount) else {
            throw tooLarge(entry.byteCount)
        }
        let end = entry.offset.adding(checked: entry.byteCount)
        guard let end, end <= file.bytes.byteCount else {
            throw CairnError(
                .incomplete, "a chunk reaches beyond the end of the file",
                .init(file: file.bytes.key, tensor: path, offset: entry.offset, expected: "\(entry.byteCount) bytes"))
        }
        let isEdge = zip(origin, zip(chunk.extents, shape.extents)).contains { $0 + $1.0 > $1.1 }
        return (try file.bytes.bytes(in: entry.offset..<end), leavesEdgesPlain && isEdge ? .max : entry.mask)
    }

    private func tooLarge(_ byteCount: Int) -> CairnError {
        CairnError(
            .malformed, "a chunk is stored in more bytes than it can have",
            .init(
                file: file.bytes.key, tensor: path, expected: "about \(chunkByteCount) bytes at most",
                found: "\(byteCount)"))
    }
}

/// Expanded chunks of one file that were used last: neighbouring regions begin and end inside of chunks.
final class ChunkCache: Sendable {
    private struct Key: Hashable {
        var path: String
        var origin: [Int]
    }

    private struct State {
        var chunks: [Key: (bytes: [UInt8], turn: UInt64)] = [:]
        var byteCount = 0
        var turn: UInt64 = 0
    }

    private static let greatestByteCount = 64 << 20
    private let state = Mutex(State())

    func bytes(of path: String, at origin: [Int]) -> [UInt8]? {
        state.withLock { state in
            let key = Key(path: path, origin: origin)
            guard let bytes = state.chunks[key]?.bytes else { return nil }
            state.turn += 1
            state.chunks[key]?.turn = state.turn
            return bytes
        }
    }

    func keep(_ bytes: [UInt8], of path: String, at origin: [Int]) {
        state.withLock { state in
            state.turn += 1
            let old = state.chunks.updateValue((bytes, state.turn), forKey: Key(path: path, origin: origin))
            state.byteCount += bytes.count - (old?.bytes.count ?? 0)
            guard state.byteCount > Self.greatestByteCount else { return }
            // The older half at once, so that looking for it is rare.
            // The newest stays, however large it is: the next region of a large one is read next.
            for (key, chunk) in state.chunks.sorted(by: { $0.value.turn < $1.value.turn }).dropLast() {
                guard state.byteCount > Self.greatestByteCount / 2 else { break }
                state.chunks[key] = nil
                state.byteCount -= chunk.bytes.count
            }
        }
    }
}
