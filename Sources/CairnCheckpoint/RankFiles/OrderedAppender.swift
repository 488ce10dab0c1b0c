import CairnBase
import CairnTensor
import Synchronization

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
            chunks.append(StoredChunk(
                offset: offset, byteCount: self.bytes.count - offset,
                checksum: CRC32C.checksum(self.bytes.span.bytes.extracting(offset..<self.bytes.count))))
        }
    }
}
