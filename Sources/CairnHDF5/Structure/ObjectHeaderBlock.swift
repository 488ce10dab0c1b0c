import CairnBase

/// The messages of one block of an object header. Source: HDF5 File Format Specification 3.0, IV.A.1.
struct ObjectHeaderBlock {
    struct Message {
        var kind: UInt8
        var flags: UInt8
        /// Where its content is in the block.
        var content: Range<Int>
    }

    static let shapeKind: UInt8 = 1, typeKind: UInt8 = 3, layoutKind: UInt8 = 8, attributeKind: UInt8 = 12
    static let continuationKind: UInt8 = 16, attributeInformationKind: UInt8 = 21, cacheImageKind: UInt8 = 24

    /// How further blocks of a header are read: as version 1 has them, or as version 2 with or without a number in each
    /// message for the order in which they were made.
    enum Form: Equatable {
        case first
        case second(hasOrder: Bool)
    }

    /// How many bytes the block has, in version 2 with its checksum at the end; of version 1 as many as were read.
    let byteCount: Int
    /// How many it would have if all of it had been read.
    let wholeByteCount: Int
    let messages: [Message]
    let form: Form

    private static let firstSignature: [UInt8] = Array("OHDR".utf8), furtherSignature: [UInt8] = Array("OCHK".utf8)

    /// - Parameters:
    ///   - bytes: The block, perhaps with more behind it.
    ///   - form: What the first block says, for further ones.
    /// - Returns: `nil` for what is not such a block, or of version 2 and not whole.
    init?(_ bytes: UnsafeRawBufferPointer, form known: Form?) {
        guard bytes.count >= 8 else { return nil }
        guard let whole = known == nil ? Self.wholeByteCount(bytes) : bytes.count else { return nil }
        var position: Int
        wholeByteCount = whole
        if let known {
            form = known
            byteCount = whole
            if case .second = known {
                guard bytes[..<4].elementsEqual(Self.furtherSignature) else { return nil }
                position = 4
            } else {
                position = 0
            }
        } else if bytes[..<4].elementsEqual(Self.firstSignature) {
            guard whole <= bytes.count else { return nil }
            let flags = bytes[5]
            position = 6 + (flags & 0x20 != 0 ? 16 : 0) + (flags & 0x10 != 0 ? 4 : 0) + 1 << Int(flags & 3)
            byteCount = whole
            form = .second(hasOrder: flags & 4 != 0)
        } else {
            form = .first
            byteCount = min(bytes.count, whole)
            position = 16
        }
        let header: Int
        let end: Int
        switch form {
        case .first: (header, end) = (8, byteCount)
        case .second(let hasOrder): (header, end) = (hasOrder ? 6 : 4, byteCount - 4)
        }
        var messages: [Message] = []
        while position + header <= end {
            // Version 1 has kinds of two bytes.
            let isFirst = form == .first
            guard let size = Self.integer(bytes, position + (isFirst ? 2 : 1), 2), position + header + size <= end
            else { break }
            let start = position + header
            let flags = bytes[position + (isFirst ? 4 : 3)]
            messages.append(Message(kind: bytes[position], flags: flags, content: start..<start + size))
            position = start + size
        }
        self.messages = messages
    }

    /// How many bytes a first block has in all, which its beginning says; `nil` for what is not a block.
    static func wholeByteCount(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count >= 16 else { return nil }
        if bytes[..<4].elementsEqual(firstSignature) {
            guard bytes[4] == 2 else { return nil }
            let flags = bytes[5]
            let position = 6 + (flags & 0x20 != 0 ? 16 : 0) + (flags & 0x10 != 0 ? 4 : 0)
            let width = 1 << Int(flags & 3)
            return integer(bytes, position, width)?.adding(checked: position + width + 4)
        }
        guard bytes[0] == 1, bytes[1] == 0 else { return nil }
        return integer(bytes, 8, 4)?.adding(checked: 16)
    }

    /// Whether the block's own checksum is that of its bytes.
    func hasRightSum(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let summed = UnsafeRawBufferPointer(rebasing: bytes[..<(byteCount - 4)])
        return Self.integer(bytes, byteCount - 4, 4) == Int(Lookup3.checksum(summed))
    }

    /// A little-endian number that is an `Int`.
    static func integer(_ bytes: UnsafeRawBufferPointer, _ position: Int, _ width: Int) -> Int? {
        guard position >= 0, width <= 8, position + width <= bytes.count else { return nil }
        var value: UInt64 = 0
        for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[position + index]) }
        return Int(exactly: value)
    }
}
