import CairnBase

/// The messages of one block of an object header, version 2. Source: HDF5 File Format Specification 3.0, IV.A.1.b.
struct ObjectHeaderBlock {
    struct Message {
        var kind: UInt8
        var flags: UInt8
        /// Where its content is in the block.
        var content: Range<Int>
    }

    static let layoutKind: UInt8 = 8, typeKind: UInt8 = 3, attributeKind: UInt8 = 12, continuationKind: UInt8 = 16

    /// How many bytes the block has, its checksum at the end included.
    let byteCount: Int
    let messages: [Message]
    /// Whether messages carry a number for the order in which they were made; that of the first block is for all.
    let hasOrder: Bool

    private static let first: [UInt8] = Array("OHDR".utf8), further: [UInt8] = Array("OCHK".utf8)

    /// - Parameters:
    ///   - bytes: The block, perhaps with more behind it.
    ///   - hasOrder: What the first block says, for further ones.
    /// - Returns: `nil` for what is no such block or not whole.
    init?(_ bytes: UnsafeRawBufferPointer, hasOrder: Bool?) {
        guard bytes.count >= 12 else { return nil }
        var position: Int
        if bytes[..<4].elementsEqual(Self.first) {
            guard bytes[4] == 2 else { return nil }
            let flags = bytes[5]
            position = 6 + (flags & 0x20 != 0 ? 16 : 0) + (flags & 0x10 != 0 ? 4 : 0)
            let width = 1 << Int(flags & 3)
            guard position + width <= bytes.count, let size = Self.integer(bytes, position, width),
                size <= bytes.count - position - width - 4
            else { return nil }
            position += width
            byteCount = position + size + 4
            self.hasOrder = flags & 4 != 0
        } else if let hasOrder, bytes[..<4].elementsEqual(Self.further) {
            position = 4
            byteCount = bytes.count
            self.hasOrder = hasOrder
        } else {
            return nil
        }
        var messages: [Message] = []
        let header = self.hasOrder ? 6 : 4
        while position + header <= byteCount - 4 {
            guard let size = Self.integer(bytes, position + 1, 2), position + header + size <= byteCount - 4 else { break }
            let start = position + header
            messages.append(Message(kind: bytes[position], flags: bytes[position + 3], content: start..<start + size))
            position = start + size
        }
        self.messages = messages
    }

    /// A little-endian number that is an `Int`.
    static func integer(_ bytes: UnsafeRawBufferPointer, _ position: Int, _ width: Int) -> Int? {
        guard position >= 0, width <= 8, position + width <= bytes.count else { return nil }
        var value: UInt64 = 0
        for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[position + index]) }
        return Int(exactly: value)
    }
}
