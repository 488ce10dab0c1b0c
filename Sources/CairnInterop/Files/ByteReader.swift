import CairnBase

/// Little-endian numbers of bytes in memory; `nil` beyond their end.
struct ByteReader {
    let bytes: [UInt8]

    func integer(at offset: Int, byteCount: Int) -> UInt64? {
        guard offset >= 0, let end = offset.adding(checked: byteCount), end <= bytes.count else { return nil }
        return bytes[offset..<end].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    func u16(at offset: Int) -> Int? { integer(at: offset, byteCount: 2).map { Int($0) } }

    func u32(at offset: Int) -> Int? { integer(at: offset, byteCount: 4).map { Int($0) } }

    /// A 64-bit size or offset; `nil` also when it is no `Int`.
    func u64(at offset: Int) -> Int? { integer(at: offset, byteCount: 8).flatMap { Int(exactly: $0) } }
}
