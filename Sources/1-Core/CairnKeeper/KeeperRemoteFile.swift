import CairnBase
import CairnStorage

/// An object that another host's keeper has, or that is rebuilt from what others have: this host's keeper brings the bytes that
/// are asked for.
final class KeeperRemoteFile: StorageFile {
    let key: String
    let byteCount: Int
    private let reader: Int
    private let connection: KeeperConnection
    private let generation: Int

    init(key: String, reader: Int, byteCount: Int, connection: KeeperConnection) {
        self.key = key
        self.reader = reader
        self.byteCount = byteCount
        self.connection = connection
        generation = connection.generation
    }

    deinit { connection.tell(.release(reader: reader), generation: generation) }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        let expected = destination.byteCount
        guard let end = offset.adding(checked: expected), end <= byteCount else {
            throw StorageKey.shortRead(
                of: key, at: offset, expected: expected, found: max(0, byteCount - offset), byteCount: byteCount)
        }
        var position = 0
        while position < expected {
            let count = min(expected - position, KeeperRequest.greatestRead)
            let (reply, file) = try connection.ask(
                .read(reader: reader, offset: offset + position, count: count), generation: generation)
            guard case .opened(_, count) = reply, let file else { throw connection.misunderstanding }
            var part = destination.part(position..<position + count)
            let found: Int
            do throws(SystemCallError) {
                found = try part.withUnsafeMutableBytes { buffer throws(SystemCallError) in
                    try file.readFully(at: 0, into: buffer)
                }
            } catch {
                throw error.explained("read", key)
            }
            guard found == count else {
                throw StorageKey.shortRead(of: key, at: offset, expected: count, found: found, byteCount: byteCount)
            }
            position += count
        }
    }

    func map() -> MemoryMapping? { nil }
}
