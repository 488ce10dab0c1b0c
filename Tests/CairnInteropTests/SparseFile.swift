import CairnBase
import CairnStorage
import Synchronization

/// A file of any size in memory: what is written in large pieces is taken for zeros, the rest is kept.
final class SparseFile: StorageWriter, StorageFile {
    private static let leastOmitted = 1 << 20

    let key = "sparse"
    private let pieces = Mutex<[(start: Int, bytes: [UInt8])]>([])
    private let end = Mutex(0)

    var byteCount: Int {
        get { end.withLock { $0 } }
        set { end.withLock { $0 = newValue } }
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        guard bytes.byteCount < Self.leastOmitted else { return }
        let copy = bytes.withUnsafeBytes { Array($0) }
        pieces.withLock { $0.append((offset, copy)) }
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset + destination.byteCount <= byteCount else {
            throw CairnError(.incomplete, "beyond the end", .init(file: key, offset: offset))
        }
        let pieces = pieces.withLock { $0 }
        destination.withUnsafeMutableBytes { destination in
            destination.initializeMemory(as: UInt8.self, repeating: 0)
            for piece in pieces {
                let from = max(offset, piece.start), to = min(offset + destination.count, piece.start + piece.bytes.count)
                guard from < to else { continue }
                let part = piece.bytes[(from - piece.start)..<(to - piece.start)]
                UnsafeMutableRawBufferPointer(rebasing: destination[(from - offset)..<(to - offset)]).copyBytes(from: part)
            }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
    func startWriteback(at offset: Int, byteCount: Int) {}
    func finish(byteCount: Int) throws(CairnError) { self.byteCount = byteCount }
    func discard() {}
}
