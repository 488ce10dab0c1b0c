import CairnBase
import CairnStorage

/// Patches the headers of objects on their way to the HDF5 library, so that an old library reads what a newer one wrote and
/// never follows an untrusted type into a heap.
///
/// - Types become opaque bytes of the same size: the library finds and moves elements, and ``StoredType`` reads what they
///   are. So 1.10 opens datasets of types that 1.12 and 2.0 introduced.
/// - Layouts of version 5 become version 4. Where chunks went through filters, the records of their index are wider;
///   ``ChunkIndex`` reads those.
///
/// Headers of version 2 get the checksum of the patched bytes. The library reads the first 512 bytes of a header and then the
/// rest of its block; both reads are answered from the whole block, which is patched at once.
struct HeaderPatch {
    /// How further blocks are to be read, by where they begin.
    private var furtherBlocks: [Int: ObjectHeaderBlock.Form] = [:]
    /// The first block that was changed last, whose rest HDF5 asks for next.
    private var last: (offset: Int, bytes: [UInt8])?
    /// Where whole blocks come from.
    var parts: MetadataParts?

    private static let greatestBlock = 1 << 26

    /// Answers what HDF5 wants of the block that was changed last.
    ///
    /// - Returns: Whether it is all there.
    mutating func fill(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        guard let last, offset > last.offset, offset - last.offset + buffer.count <= last.bytes.count else { return false }
        let start = offset - last.offset
        buffer.copyBytes(from: last.bytes[start..<start + buffer.count])
        return true
    }

    /// Changes what was just read of a header, if it is that.
    mutating func apply(to bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(CairnError) {
        if furtherBlocks[offset] == nil, let parts,
            let whole = ObjectHeaderBlock.wholeByteCount(UnsafeRawBufferPointer(bytes)), whole > bytes.count,
            whole <= Self.greatestBlock, let end = offset.adding(checked: whole), end <= parts.file.byteCount
        {
            var block = try parts.file.bytes(in: offset..<end)
            block.withUnsafeMutableBytes { change($0, at: offset) }
            bytes.copyBytes(from: block.prefix(bytes.count))
            last = (offset, block)
            return
        }
        last = nil
        change(bytes, at: offset)
    }

    private mutating func change(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        guard let block = ObjectHeaderBlock(UnsafeRawBufferPointer(bytes), form: furtherBlocks[offset]) else { return }
        // Only what is intact is changed: damage must stay to be found.
        let isSummed = block.form != .first
        guard !isSummed || block.hasRightSum(UnsafeRawBufferPointer(bytes)) else { return }
        var isChanged = false
        for message in block.messages {
            let content = UnsafeMutableRawBufferPointer(rebasing: bytes[message.content])
            // A shared message is elsewhere.
            switch message.kind {
            case _ where message.flags & 2 != 0: break
            case ObjectHeaderBlock.continuationKind:
                let width = parts?.widths.address ?? 8
                if let address = ObjectHeaderBlock.integer(UnsafeRawBufferPointer(content), 0, width) {
                    furtherBlocks[address &+ (parts?.base ?? 0)] = block.form
                }
            case ObjectHeaderBlock.layoutKind where content.first == 5:
                content[0] = 4
                isChanged = true
            case ObjectHeaderBlock.typeKind where content.count >= 8:
                // Version 1 of opaque bytes, which has no name; the size in the last four bytes stays.
                content[0] = 0x15
                for index in 1..<4 { content[index] = 0 }
                isChanged = true
            default: break
            }
        }
        guard isChanged, isSummed else { return }
        let changed = Lookup3.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<(block.byteCount - 4)]))
        for index in 0..<4 {
            bytes[block.byteCount - 4 + index] = UInt8(truncatingIfNeeded: changed >> UInt32(index * 8))
        }
    }
}
