import Synchronization

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
