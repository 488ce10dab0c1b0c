import CairnBase
package import CairnTensor
import Synchronization

/// How the bytes of a fragment's chunks are stored.
package enum ChunkCodec: String, Sendable, Hashable {
    /// As they are.
    case raw
    /// Split into planes by significance, then one zstd frame a chunk (RFC 8878), where that is smaller; else as they are.
    case zstdPlanes = "zstd-planes"
    /// Rotated and split into planes, each of them as it is or a zstd frame of its own, where that is smaller; else as they are.
    case exponentPlanes = "exponent-planes"
}

/// Compresses and expands single chunks.
///
/// Splitting floats into planes puts the bytes that hardly vary (sign and exponent) next to each other, which is where
/// weights compress at all.
package enum ChunkCompression {
    /// Compresses a chunk into memory that has room for it as it is.
    ///
    /// - Returns: How many bytes are stored, or `nil` when that would save less than one part in 32.
    package static func compress(
        _ chunk: UnsafeRawBufferPointer, _ scalarType: ScalarType, _ codec: ChunkCodec, level: Int,
        into target: UnsafeMutableRawBufferPointer, _ workspace: ChunkWorkspace
    ) -> Int? {
        let limit = chunk.count - chunk.count / 32 - 1
        switch codec {
        case .raw: return nil
        case .exponentPlanes: return ExponentPlanes.compress(chunk, scalarType, limit: limit, into: target, workspace)
        case .zstdPlanes:
            let planes = split(chunk, BytePlanes.Cut(scalarType, rotatesFloats: false), workspace)
            guard let size = workspace.compress(planes, level: level, into: target), size <= limit else { return nil }
            return size
        }
    }

    /// Expands what ``compress(_:_:_:level:into:_:)`` made to exactly the size of `chunk`; `false` when it is not that.
    package static func expand(
        _ stored: UnsafeRawBufferPointer, _ scalarType: ScalarType, _ codec: ChunkCodec,
        into chunk: UnsafeMutableRawBufferPointer, _ workspace: ChunkWorkspace
    ) -> Bool {
        switch codec {
        case .raw: return false
        case .exponentPlanes: return ExponentPlanes.expand(stored, scalarType, into: chunk, workspace)
        case .zstdPlanes:
            let cut = BytePlanes.Cut(scalarType, rotatesFloats: false)
            if cut.width == 1 { return workspace.expand(stored, into: chunk) }
            let planes = workspace.planes(chunk.count)
            guard workspace.expand(stored, into: planes) else { return false }
            var bytes = chunk.mutableBytes
            BytePlanes.join(UnsafeRawBufferPointer(planes).bytes, cut, into: &bytes)
            return true
        }
    }

    private static func split(
        _ chunk: UnsafeRawBufferPointer, _ cut: BytePlanes.Cut, _ workspace: ChunkWorkspace
    ) -> UnsafeRawBufferPointer {
        if cut.width == 1 { return chunk }
        let planes = workspace.planes(chunk.count)
        var target = planes.mutableBytes
        BytePlanes.split(chunk.bytes, cut, into: &target)
        return UnsafeRawBufferPointer(planes)
    }
}

/// The bytes of a run as they will be stored, in memory that the next run uses again: to touch fresh memory costs more than to
/// compress what goes into it.
final class RunMemory: Sendable {
    private static let pool = RecyclingPool<AlignedBuffer>(limit: 2 * ThreadPool.processorCount)
    /// The largest memory that is kept, twice an ordinary piece.
    private static let keptByteCount = 2 * RankFileBuilder.pieceByteCount

    private let buffer: AlignedBuffer

    /// Memory of undefined content.
    init(byteCount: Int) {
        buffer =
            Self.pool.take { $0.byteCount >= byteCount && $0.byteCount / 4 <= byteCount } ?? AlignedBuffer(byteCount: byteCount)
    }

    deinit { if buffer.byteCount <= Self.keptByteCount { Self.pool.give(buffer) } }

    var bytes: UnsafeMutableRawBufferPointer { buffer.bytes }
}

/// Appends compressed chunks in order: the offset of each follows from the lengths of all chunks before it.
///
/// Runs of chunks may be added in any order. One that is added before its turn waits here, compressed, and is placed together
/// with the run that it waited for.
final class OrderedAppender: Sendable {
    /// The chunks of a piece as they will be stored.
    struct Run: Sendable {
        /// Holds the stored bytes, one chunk after the other.
        let memory: RunMemory
        /// How many they are.
        var byteCount: Int
        /// For each chunk its stored length and checksum; offsets count from the run's start.
        var chunks: [StoredChunk]
    }

    /// A run with its offset in the file's data.
    struct Placed: Sendable {
        var index: Int
        var offset: Int
        var run: Run
    }

    private struct State {
        var next = 0
        var offset: Int
        var waiting: [Int: Run] = [:]
    }

    private let state: Mutex<State>

    /// - Parameter offset: Where the first run begins.
    init(from offset: Int) { state = Mutex(State(offset: offset)) }

    /// Where the runs placed so far end.
    var end: Int { state.withLock { $0.offset } }

    /// Adds run number `index`; returns the runs whose offsets are known now, for the caller to write.
    func add(_ run: Run, at index: Int) -> [Placed] {
        state.withLock { state in
            state.waiting[index] = run
            var ready: [Placed] = []
            while let run = state.waiting.removeValue(forKey: state.next) {
                ready.append(Placed(index: state.next, offset: state.offset, run: run))
                state.offset += run.byteCount
                state.next += 1
            }
            return ready
        }
    }
}

extension OrderedAppender.Run {
    /// Compresses chunks; those that do not get smaller are kept as they are.
    init(_ bytes: RawSpan, _ scalarType: ScalarType, _ codec: ChunkCodec, chunkByteCount: Int, level: Int) {
        let memory = RunMemory(byteCount: bytes.byteCount)
        (chunks, byteCount) = bytes.withUnsafeBytes { source in
            ChunkWorkspace.with { workspace in
                var chunks: [StoredChunk] = []
                var end = 0
                for begin in stride(from: 0, to: source.count, by: chunkByteCount) {
                    let chunk = UnsafeRawBufferPointer(rebasing: source[begin..<min(source.count, begin + chunkByteCount)])
                    // What is stored is never longer than the chunks, so there is room for this one too.
                    let room = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[end..<end + chunk.count])
                    var length = chunk.count
                    if let size = ChunkCompression.compress(
                        chunk, scalarType, codec, level: level, into: room, workspace)
                    {
                        length = size
                    } else {
                        room.copyMemory(from: chunk)
                    }
                    let stored = UnsafeRawBufferPointer(rebasing: room[..<length])
                    chunks.append(
                        StoredChunk(offset: end, byteCount: length, checksum: CRC32C.checksum(stored.bytes)))
                    end += length
                }
                return (chunks, end)
            }
        }
        self.memory = memory
    }

    /// The stored bytes.
    func withBytes<Result, Failure: Error>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(rebasing: memory.bytes[..<byteCount]).bytes)
    }
}
