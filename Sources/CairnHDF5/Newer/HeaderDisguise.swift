/// Changes the headers of objects on their way to HDF5, so that an old HDF5 reads what a newer one wrote, and touches
/// nothing that it would believe too easily.
///
/// - HDF5 1.12 and 2.0 raised the version numbers of some messages without changing, for what is read here, what is in
///   them; 1.10 refuses a number that it does not know. Types of version 4 or 5 become version 3, unless they are
///   references or of 2.0's own complex class. Layouts of version 5 become version 4; where chunks went through filters
///   the records of their index are wider, and those are read by ``ChunkIndex``.
/// - Text of any length becomes elements of 16 bytes that nobody else has, ``AnyLengthText``: what they point to is
/// read
///   by ``GlobalHeap``.
///
/// Headers of version 2 get the checksum that goes with the change.
struct HeaderDisguise {
    /// How further blocks are to be read, by where they begin.
    private var furtherBlocks: [Int: ObjectHeaderBlock.Form] = [:]
    /// What is added to addresses in the file.
    var baseAddress = 0

    /// Changes a header block that was just read, if it is one.
    ///
    /// - Returns: Whether HDF5 may see it: an attribute that it fails to understand makes 1.10 release what it never
    /// made.
    mutating func apply(to bytes: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        guard let block = ObjectHeaderBlock(UnsafeRawBufferPointer(bytes), form: furtherBlocks[offset]) else {
            return true
        }
        // Only what is intact is changed: damage must stay to be found.
        let isSummed = block.form != .first
        let summed = UnsafeRawBufferPointer(rebasing: bytes[..<(isSummed ? block.byteCount - 4 : 0)])
        if isSummed {
            let sum = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(bytes), block.byteCount - 4, 4)
            guard sum == Int(Lookup3.checksum(summed)) else { return true }
        }
        var isChanged = false
        for message in block.messages {
            let content = UnsafeMutableRawBufferPointer(rebasing: bytes[message.content])
            // A shared message is elsewhere.
            switch message.kind {
            case _ where message.flags & 2 != 0: break
            case ObjectHeaderBlock.continuationKind:
                if let address = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(content), 0, 8) {
                    furtherBlocks[address &+ baseAddress] = block.form
                }
            case ObjectHeaderBlock.layoutKind where content.first == 5:
                content[0] = 4
                isChanged = true
            case ObjectHeaderBlock.typeKind:
                isChanged = Self.change(type: content, from: 0, depth: 0)?.isChanged == true || isChanged
            case ObjectHeaderBlock.attributeKind where message.flags & 2 == 0:
                guard let isDisguised = Self.change(attribute: content) else { return false }
                isChanged = isDisguised || isChanged
            default: break
            }
        }
        guard isChanged, isSummed else { return true }
        let changed = Lookup3.checksum(summed)
        for index in 0..<4 {
            bytes[block.byteCount - 4 + index] = UInt8(truncatingIfNeeded: changed >> UInt32(index * 8))
        }
        return true
    }

    /// Changes attributes that an object's header has no room for: a block of the heap where they follow each other.
    static func apply(toHeapBlock bytes: UnsafeMutableRawBufferPointer) {
        // Signature, version, the heap's address, the block's place in it in five bytes, and a checksum of all with
        // zeros in its own place.
        let checksumOffset = 18, begin = 22
        guard bytes.count > begin, bytes[..<4].elementsEqual("FHDB".utf8), bytes[4] == 0 else { return }
        let stored = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(bytes), checksumOffset, 4) ?? 0
        func write(_ checksum: Int) {
            for index in 0..<4 { bytes[checksumOffset + index] = UInt8(truncatingIfNeeded: checksum >> (8 * index)) }
        }
        write(0)
        guard stored == Int(Lookup3.checksum(UnsafeRawBufferPointer(bytes))) else { return write(stored) }
        var position = begin
        while position < bytes.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[position...])
            // Behind the last one, and where one was removed, is room.
            guard let byteCount = AttributeForm(UnsafeRawBufferPointer(rest))?.byteCount, byteCount <= rest.count,
                change(attribute: UnsafeMutableRawBufferPointer(rebasing: rest[..<byteCount])) != nil
            else { break }
            position += byteCount
        }
        write(Int(Lookup3.checksum(UnsafeRawBufferPointer(bytes))))
    }

    /// Changes the type inside of an attribute.
    ///
    /// - Returns: Whether it was changed; `nil` for an attribute that is damaged.
    private static func change(attribute content: UnsafeMutableRawBufferPointer) -> Bool? {
        guard let form = AttributeForm(UnsafeRawBufferPointer(content)) else { return nil }
        guard !form.isTypeShared else { return false }
        return change(
            type: UnsafeMutableRawBufferPointer(rebasing: content[form.type]), from: 0, depth: 0)?.isChanged
    }

    /// Changes a type and those inside of it.
    ///
    /// - Returns: Where it ends and whether anything was changed; `nil` for what is not understood.
    private static func change(
        type bytes: UnsafeMutableRawBufferPointer, from start: Int, depth: Int
    ) -> (end: Int, isChanged: Bool)? {
        guard depth < 16, start + 8 <= bytes.count, let size = ObjectHeaderBlock.integer(.init(bytes), start + 4, 4)
        else { return nil }
        let version = bytes[start] >> 4
        let kind = bytes[start] & 15
        let flags = Int(bytes[start + 1]) | Int(bytes[start + 2]) << 8
        var isChanged = false
        if version > 3, kind != 7, kind != 11 {
            guard version <= 5 else { return nil }
            bytes[start] = 3 << 4 | kind
            isChanged = true
        }
        var position = start + 8
        func inner() -> Bool {
            guard let type = change(type: bytes, from: position, depth: depth + 1) else { return false }
            position = type.end
            isChanged = isChanged || type.isChanged
            return true
        }
        func passName(isPadded: Bool) -> Bool {
            guard position < bytes.count, let end = bytes[position...].firstIndex(of: 0) else { return false }
            position += isPadded ? (end + 1 - position).roundedUpToEight : end + 1 - position
            return true
        }
        switch kind {
        case 0, 4: position += 4
        case 1: position += 12
        case 2: position += 2
        case 3, 7: break
        case 5: position += (flags & 0xFF).roundedUpToEight
        case 6:
            var width = 1
            while width < 4, size >> (8 * width) != 0 { width += 1 }
            for _ in 0..<flags {
                guard passName(isPadded: version < 3) else { return nil }
                // Version 1 has room for dimensions behind the offset.
                position += version >= 3 ? width : version == 2 ? 4 : 32
                guard inner() else { return nil }
            }
        case 8:
            guard inner() else { return nil }
            for _ in 0..<flags { guard passName(isPadded: version < 3) else { return nil } }
            position += flags * size
        case 9:
            guard inner() else { return nil }
            if flags & 15 == 1, size == AnyLengthText.byteCount, position <= bytes.count,
                AnyLengthText.replaceType(UnsafeMutableRawBufferPointer(rebasing: bytes[start..<position]))
            {
                isChanged = true
            }
        case 10:
            guard position < bytes.count else { return nil }
            let dimensions = Int(bytes[position])
            position += version >= 3 ? 1 + 4 * dimensions : 4 + 8 * dimensions
            guard inner() else { return nil }
        default: return nil
        }
        return position <= bytes.count ? (position, isChanged) : nil
    }
}

extension Int {
    var roundedUpToEight: Int { (self + 7) / 8 * 8 }
}
