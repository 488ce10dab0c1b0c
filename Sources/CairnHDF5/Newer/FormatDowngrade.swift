/// Lets an older HDF5 read what a newer one wrote.
///
/// HDF5 1.12 and 2.0 raised the version numbers of some messages without changing, for what is read here, what is in
/// them; 1.10 refuses a number that it does not know. Header blocks are therefore handed to the library with the older
/// numbers and the checksum that goes with those:
///
/// - types of version 4 or 5 as version 3, unless they are references or of 2.0's own complex class;
/// - layouts of version 5 as version 4. Where chunks went through filters, the records of their index are wider: those
///   are read by ``ChunkIndex``.
struct FormatDowngrade {
    /// Whether further blocks, by where they begin, number their messages.
    private var furtherBlocks: [Int: Bool] = [:]
    /// What is added to addresses in the file.
    var baseAddress = 0

    /// Changes a header block that was just read, if it is one.
    mutating func apply(to bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        guard let block = ObjectHeaderBlock(UnsafeRawBufferPointer(bytes), hasOrder: furtherBlocks[offset]),
            let sum = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(bytes), block.byteCount - 4, 4)
        else { return }
        let before = UnsafeRawBufferPointer(rebasing: bytes[..<(block.byteCount - 4)])
        var isChanged = false
        for message in block.messages {
            // A shared message is elsewhere.
            guard message.flags & 2 == 0 || message.kind == ObjectHeaderBlock.attributeKind else { continue }
            let content = UnsafeMutableRawBufferPointer(rebasing: bytes[message.content])
            switch message.kind {
            case ObjectHeaderBlock.continuationKind:
                if let address = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(content), 0, 8) {
                    furtherBlocks[address &+ baseAddress] = block.hasOrder
                }
            case ObjectHeaderBlock.layoutKind where content.first == 5,
                ObjectHeaderBlock.typeKind where content.first.map({ $0 >> 4 > 3 }) == true,
                ObjectHeaderBlock.attributeKind:
                // Only what is intact is changed: damage must stay to be found.
                if !isChanged, Lookup3.checksum(before) != UInt32(truncatingIfNeeded: sum) { return }
                if message.kind == ObjectHeaderBlock.layoutKind {
                    content[0] = 4
                    isChanged = true
                } else if message.kind == ObjectHeaderBlock.typeKind {
                    isChanged = Self.lowerType(content, from: 0, depth: 0).map(\.isChanged) == true || isChanged
                } else {
                    isChanged = Self.lowerAttribute(content) || isChanged
                }
            default: break
            }
        }
        guard isChanged else { return }
        let changed = Lookup3.checksum(before)
        for index in 0..<4 { bytes[block.byteCount - 4 + index] = UInt8(truncatingIfNeeded: changed >> UInt32(index * 8)) }
    }

    /// The type inside of an attribute.
    private static func lowerAttribute(_ content: UnsafeMutableRawBufferPointer) -> Bool {
        let bytes = UnsafeRawBufferPointer(content)
        guard content.count >= 9, content[0] == 3, content[1] & 1 == 0,
            let nameByteCount = ObjectHeaderBlock.integer(bytes, 2, 2),
            let typeByteCount = ObjectHeaderBlock.integer(bytes, 4, 2),
            9 + nameByteCount + typeByteCount <= content.count
        else { return false }
        let start = 9 + nameByteCount
        let type = UnsafeMutableRawBufferPointer(rebasing: content[start..<start + typeByteCount])
        return lowerType(type, from: 0, depth: 0).map(\.isChanged) == true
    }

    /// Lowers a type and those inside of it.
    ///
    /// - Returns: Where it ends and whether anything was changed; `nil` for what is not understood.
    private static func lowerType(
        _ bytes: UnsafeMutableRawBufferPointer, from start: Int, depth: Int
    ) -> (end: Int, isChanged: Bool)? {
        guard depth < 16, start + 8 <= bytes.count, let size = ObjectHeaderBlock.integer(.init(bytes), start + 4, 4)
        else { return nil }
        let version = bytes[start] >> 4, kind = bytes[start] & 15
        let flags = Int(bytes[start + 1]) | Int(bytes[start + 2]) << 8
        var isChanged = false
        if version > 3, kind != 7, kind != 11 {
            guard version <= 5 else { return nil }
            bytes[start] = 3 << 4 | kind
            isChanged = true
        }
        var position = start + 8
        func inner() -> Bool {
            guard let type = lowerType(bytes, from: position, depth: depth + 1) else { return false }
            position = type.end
            isChanged = isChanged || type.isChanged
            return true
        }
        func passName() -> Bool {
            guard let end = bytes[position...].firstIndex(of: 0) else { return false }
            position = end + 1
            return true
        }
        switch kind {
        case 0, 4: position += 4
        case 1: position += 12
        case 2: position += 2
        case 3, 7: break
        case 5: position += (flags & 0xFF).roundedUpToEight
        // The older encodings have other fields; nothing inside of them is newer.
        case 6 where version < 3, 8 where version < 3, 10 where version < 3: return (bytes.count, isChanged)
        case 6:
            var width = 1
            while width < 4, size >> (8 * width) != 0 { width += 1 }
            for _ in 0..<flags {
                guard position < bytes.count, passName() else { return nil }
                position += width
                guard inner() else { return nil }
            }
        case 8:
            guard inner() else { return nil }
            for _ in 0..<flags { guard position < bytes.count, passName() else { return nil } }
            position += flags * size
        case 9: guard inner() else { return nil }
        case 10:
            guard position < bytes.count else { return nil }
            position += 1 + 4 * Int(bytes[position])
            guard inner() else { return nil }
        default: return nil
        }
        return position <= bytes.count ? (position, isChanged) : nil
    }
}

extension Int {
    fileprivate var roundedUpToEight: Int { (self + 7) / 8 * 8 }
}
