import CairnBase
import CairnStorage

/// A message of an object's header, as it is in the file.
struct HeaderMessage {
    var kind: UInt8
    var flags: UInt8
    var content: [UInt8]

    /// Whether the content is elsewhere and only its place is here.
    var isShared: Bool { flags & 2 != 0 }
}

/// The headers of objects, read past the library: HDF5 1.10 knows neither all forms of types nor what lies beyond a
/// damaged attribute.
///
/// Source: HDF5 File Format Specification 3.0, IV.A.
final class ObjectHeaders {
    let parts: MetadataParts
    private let superblock: Superblock?
    /// The heaps of parts that several headers share, by the kind of message; read when one is first met.
    private var sharedHeaps: [UInt8: FractalHeap]?

    private static let greatestBlock = 1 << 26
    private static let greatestCount = 4096

    init(_ file: any StorageFile, _ superblock: Superblock?) {
        self.superblock = superblock
        parts = MetadataParts(file: file, base: superblock?.base ?? 0, widths: superblock?.widths ?? FieldWidths())
    }

    private func damaged(_ reason: String, _ address: Int) -> CairnError {
        CairnError(.malformed, "the header of an object is damaged: \(reason)", .init(file: parts.file.key, offset: address))
    }

    /// All messages of the header at an address, in all of its blocks.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a header that is not understood.
    func messages(of address: Int) throws(CairnError) -> [HeaderMessage] {
        guard let start = address.adding(checked: parts.base) else { throw damaged("it has no valid address", address) }
        var pending: [(offset: Int, byteCount: Int)] = [(start, 512)]
        var form: ObjectHeaderBlock.Form?
        var messages: [HeaderMessage] = []
        var visits = 0
        while let (offset, byteCount) = pending.popLast() {
            visits += 1
            guard visits < Self.greatestCount, offset >= 0, offset < parts.file.byteCount, byteCount > 0 else {
                throw damaged("a block of it lies outside of the file, or it has too many", address)
            }
            let end = min(parts.file.byteCount, offset.adding(checked: byteCount) ?? parts.file.byteCount)
            let bytes = try parts.file.bytes(in: offset..<end)
            if form == nil, byteCount == 512,
                let whole = bytes.withUnsafeBytes({ ObjectHeaderBlock.wholeByteCount($0) }), whole > byteCount
            {
                guard whole <= Self.greatestBlock else { throw damaged("a block of it is too large", address) }
                pending.append((offset, whole))
                continue
            }
            let block = bytes.withUnsafeBytes { ObjectHeaderBlock($0, form: form) }
            guard let block, block.wholeByteCount <= bytes.count else {
                throw damaged("a block of it is not a valid block or was cut short", offset - parts.base)
            }
            form = block.form
            if block.form != .first, !bytes.withUnsafeBytes({ block.hasRightSum($0) }) {
                throw damaged("a checksum differs", offset - parts.base)
            }
            // Headers of version 1 keep all attributes; HDF5 does not look there for a message that says otherwise.
            for message in block.messages
            where block.form != .first || message.kind != ObjectHeaderBlock.attributeInformationKind {
                let content = Array(bytes[message.content])
                messages.append(HeaderMessage(kind: message.kind, flags: message.flags, content: content))
                guard message.kind == ObjectHeaderBlock.continuationKind else { continue }
                let fields = ByteFields(content)
                guard let location = fields.address(0, parts.widths.address)?.adding(checked: parts.base),
                    let length = fields.integer(parts.widths.address, parts.widths.length), length <= Self.greatestBlock
                else { throw damaged("a further block of it has no address", address) }
                pending.append((location, length))
            }
        }
        return messages
    }

    /// What a message says, wherever it is kept.
    func content(of message: HeaderMessage) throws(CairnError) -> [UInt8] {
        message.isShared ? try shared(message.content, kind: message.kind) : message.content
    }

    /// What is in the place that `reference` names: a message of that kind in a header of its own, as types with names
    /// have, or in the heap for all headers.
    func shared(_ reference: [UInt8], kind: UInt8) throws(CairnError) -> [UInt8] {
        let fields = ByteFields(reference)
        guard let version = fields.integer(0, 1), (1...3).contains(version) else { throw unresolved() }
        if version == 3, fields.integer(1, 1) == 1 {
            guard reference.count >= 10 else { throw unresolved() }
            return try sharedObject(Array(reference[2..<10]), kind: kind)
        }
        // Version 1 has the address of a heap first, which is not used.
        let position = version == 1 ? 8 + parts.widths.length : 2
        guard let address = fields.address(position, parts.widths.address) else { throw unresolved() }
        for message in try messages(of: address) where message.kind == kind && !message.isShared {
            return message.content
        }
        throw unresolved()
    }

    /// What the heap for all headers has under an identifier.
    func sharedObject(_ id: [UInt8], kind: UInt8) throws(CairnError) -> [UInt8] {
        if sharedHeaps == nil { sharedHeaps = try readSharedHeaps() }
        guard let heap = sharedHeaps?[kind] else { throw unresolved() }
        return try heap.object(id)
    }

    private func unresolved() -> CairnError {
        CairnError(
            .malformed, "a part of a header is kept elsewhere, and not there",
            .init(file: parts.file.key))
    }

    /// What the file says of itself behind its superblock.
    func fileMessages() throws(CairnError) -> [HeaderMessage] {
        guard let address = superblock?.extensionAddress else { return [] }
        return try messages(of: address)
    }

    private func readSharedHeaps() throws(CairnError) -> [UInt8: FractalHeap] {
        let tableKind: UInt8 = 15
        guard let message = try fileMessages().first(where: { $0.kind == tableKind }) else { return [:] }
        let fields = ByteFields(message.content)
        let (addressWidth, entryByteCount) = (parts.widths.address, 14 + 2 * parts.widths.address)
        guard let address = fields.address(1, addressWidth), let count = fields.integer(1 + addressWidth, 1) else {
            return [:]
        }
        let table = try parts.part(address, 8 + count * entryByteCount, "SMTB")
        var heaps: [UInt8: FractalHeap] = [:]
        for entry in 0..<count {
            let start = 4 + entry * entryByteCount
            guard let kinds = table.integer(start + 2, 2), let location = table.address(start + 14 + addressWidth, addressWidth)
            else { continue }
            let heap = try FractalHeap(location, in: parts)
            for kind in 0..<16 where kinds & 1 << kind != 0 { heaps[UInt8(kind)] = heap }
        }
        return heaps
    }
}

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
