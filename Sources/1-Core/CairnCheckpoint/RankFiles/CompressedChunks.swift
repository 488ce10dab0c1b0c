import CZstd
import CairnBase
import CairnTensor
import Synchronization

/// How the bytes of a fragment's chunks are stored.
package enum ChunkCodec: String, Sendable, Hashable {
    /// As they are.
    case raw
    /// Split into planes by significance, then one zstd frame a chunk (RFC 8878), where that is smaller; else as they are.
    case zstdPlanes = "zstd-planes"
}

/// Compresses and expands single chunks.
///
/// Splitting floats into planes puts the bytes that hardly vary (sign and exponent) next to each other, which is where
/// weights compress at all.
enum ChunkCompression {
    /// The chunk compressed, or `nil` when that would save less than one part in 32.
    static func compress(_ chunk: RawSpan, _ scalarType: ScalarType, level: Int) -> [UInt8]? {
        let planes = split(chunk, elementWidth: planeWidth(scalarType))
        let worthwhile = chunk.byteCount - chunk.byteCount / 32
        var output = [UInt8](repeating: 0, count: ZSTD_compressBound(planes.count))
        let size = output.withUnsafeMutableBytes { target in
            planes.withUnsafeBytes { source in
                ZSTD_compress(target.baseAddress, target.count, source.baseAddress, source.count, Int32(level))
            }
        }
        guard ZSTD_isError(size) == 0, size < worthwhile else { return nil }
        output.removeLast(output.count - size)
        return output
    }

    /// Expands a frame that ``compress(_:_:level:)`` made to exactly the size of `chunk`; `false` when it is not such a frame.
    static func expand(_ stored: RawSpan, _ scalarType: ScalarType, into chunk: inout MutableRawSpan) -> Bool {
        let width = planeWidth(scalarType)
        let byteCount = chunk.byteCount
        func decompress(_ target: UnsafeMutableRawBufferPointer) -> Bool {
            stored.withUnsafeBytes { source in
                ZSTD_decompress(target.baseAddress, target.count, source.baseAddress, source.count) == byteCount
            }
        }
        if width == 1 { return chunk.withUnsafeMutableBytes { decompress($0) } }
        var planes = [UInt8](repeating: 0, count: byteCount)
        guard planes.withUnsafeMutableBytes({ decompress($0) }) else { return false }
        BytePlanes.join(planes.span.bytes, elementWidth: width, into: &chunk)
        return true
    }

    private static func split(_ chunk: RawSpan, elementWidth: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: chunk.byteCount) { buffer, count in
            var target = UnsafeMutableRawBufferPointer(buffer).mutableBytes
            if elementWidth == 1 {
                chunk.withUnsafeBytes { source in
                    if let base = source.baseAddress, let start = buffer.baseAddress {
                        UnsafeMutableRawPointer(start).copyMemory(from: base, byteCount: source.count)
                    }
                }
            } else {
                BytePlanes.split(chunk, elementWidth: elementWidth, into: &target)
            }
            count = chunk.byteCount
        }
    }

    /// The width of the numbers inside an element: both parts of a complex number are split alike.
    private static func planeWidth(_ scalarType: ScalarType) -> Int {
        (scalarType.byteWidth ?? 1) / (scalarType.isComplex ? 2 : 1)
    }
}

/// Appends compressed chunks in order: the offset of each follows from the lengths of all chunks before it.
///
/// Runs of chunks may be added in any order. One that is added before its turn waits here, compressed, and is placed together
/// with the run that it waited for.
final class OrderedAppender: Sendable {
    /// The chunks of a piece as they will be stored.
    struct Run: Sendable {
        /// The stored bytes, one chunk after the other.
        var bytes: [UInt8]
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
                state.offset += run.bytes.count
                state.next += 1
            }
            return ready
        }
    }
}

extension OrderedAppender.Run {
    /// Compresses chunks; those that do not get smaller are kept as they are.
    init(_ bytes: RawSpan, _ scalarType: ScalarType, chunkByteCount: Int, level: Int) {
        self.bytes = []
        chunks = []
        for begin in stride(from: 0, to: bytes.byteCount, by: chunkByteCount) {
            let chunk = bytes.extracting(begin..<min(bytes.byteCount, begin + chunkByteCount))
            let offset = self.bytes.count
            if let compressed = ChunkCompression.compress(chunk, scalarType, level: level) {
                self.bytes += compressed
            } else {
                chunk.withUnsafeBytes { self.bytes.append(contentsOf: $0) }
            }
            chunks.append(
                StoredChunk(
                    offset: offset, byteCount: self.bytes.count - offset,
                    checksum: CRC32C.checksum(self.bytes.span.bytes.extracting(offset..<self.bytes.count))))
        }
    }
}
