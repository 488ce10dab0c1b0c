import CHDF5
import CHDF5Calls
import CairnBase
import CairnStorage
import Synchronization

/// A file that HDF5 reads from a `StorageFile`: a file, an object in memory, a record of a zip archive.
///
/// HDF5 gets its bytes from here alone. It opens no path, so that nothing in a file can make it read another.
///
/// `@unchecked Sendable`: `id` never changes and is only used under the library's lock, as is `failure`.
final class HDF5File: @unchecked Sendable {
    /// The bytes.
    let bytes: any StorageFile
    /// The identifier, valid as long as this object lives.
    private(set) var id: hid_t = -1
    /// What went wrong when HDF5 last asked for bytes.
    private var failure: CairnError?
    private var patch = HeaderPatch()
    /// The memory that HDF5 was given to read elements into.
    private var target: Range<UInt>?
    /// Global heaps that were looked at, by their addresses.
    private var heaps: [Int: GlobalHeap] = [:]
    private var heapByteCount = 0
    /// The headers of objects, as they are in the file.
    let headers: ObjectHeaders

    private static let greatestHeapByteCount = 64 << 20

    private static let tokens = Atomic<UInt64>(1)

    /// - Throws: ``CairnError/Code/malformed`` when HDF5 does not take it for one of its files.
    init(_ bytes: any StorageFile) throws(CairnError) {
        self.bytes = bytes
        let superblock = try Superblock(of: bytes)
        headers = ObjectHeaders(bytes, superblock)
        patch.parts = headers.parts
        if let superblock { try Self.check(superblock, bytes) }
        var source = cairn_h5_source(
            context: Unmanaged.passUnretained(self).toOpaque(), byte_count: UInt64(bytes.byteCount),
            read: { context, offset, byteCount, buffer, content in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                let file = Unmanaged<HDF5File>.fromOpaque(context).takeUnretainedValue()
                let memory = UnsafeMutableRawBufferPointer(start: buffer, count: byteCount)
                return file.read(at: offset, memory, content) ? 0 : -1
            }, write: nil, token: Self.tokens.add(1, ordering: .relaxed).newValue)
        id = try HDF5Library.run { () throws(CairnError) -> hid_t in
            let id = cairn_h5_open(&source)
            guard id >= 0 else {
                if let shortfall = PromisedLength.shortfall(of: bytes) { throw shortfall }
                throw blame(HDF5Library.failure("open the file", .init(file: bytes.key)))
            }
            return id
        }
        try refuseCacheImage()
    }

    /// Refuses what is only a part of a file, in words that HDF5 has not.
    private static func check(_ superblock: Superblock, _ bytes: any StorageFile) throws(CairnError) {
        if let driver = superblock.driver, driver.hasPrefix("NCSA") {
            throw CairnError(
                .unsupported, "the file is one of several that HDF5's \(driver) driver divided one into",
                .init(
                    file: bytes.key, found: driver,
                    advice: "put them together with h5repack or h5repart, which come with HDF5"))
        }
        if let end = superblock.end, end > bytes.byteCount {
            throw CairnError(
                .malformed, "the file was cut short",
                .init(file: bytes.key, expected: "\(end) bytes, as its beginning says", found: "\(bytes.byteCount)"))
        }
    }

    /// What HDF5 keeps for itself at closing may hold what the file's description lacks.
    private func refuseCacheImage() throws(CairnError) {
        let messages: [HeaderMessage]
        do throws(CairnError) {
            messages = try headers.fileMessages()
        } catch {
            // Damage there is HDF5's to find: it has opened the file.
            guard error.isOfContent else { throw error }
            return
        }
        let image = messages.first { $0.kind == ObjectHeaderBlock.cacheImageKind }
        guard let image, ByteFields(image.content).address(1, headers.parts.widths.address) != nil else { return }
        throw CairnError(
            .unsupported, "the file's description is in a cache image, which only HDF5 itself unpacks",
            .init(file: bytes.key, advice: "write it anew with h5repack, which comes with HDF5"))
    }

    /// Lets HDF5 read elements into memory. It may not go beyond, even where a damaged file makes it believe that there
    /// is more.
    ///
    /// Only to be called under the library's lock.
    func reading(into memory: UnsafeMutableRawBufferPointer, _ body: (UnsafeMutableRawPointer?) -> herr_t) -> herr_t {
        let start = UInt(bitPattern: memory.baseAddress)
        target = start..<start + UInt(memory.count)
        defer { target = nil }
        return body(memory.baseAddress)
    }

    /// What is in a global heap at an address, under a number.
    func heapObject(_ address: Int, _ index: Int) throws(CairnError) -> ArraySlice<UInt8> {
        let heap: GlobalHeap
        if let known = heaps[address] {
            heap = known
        } else {
            heap = try GlobalHeap(address, in: headers.parts)
            heapByteCount += heap.byteCount
            if heapByteCount > Self.greatestHeapByteCount {
                heaps = [:]
                heapByteCount = heap.byteCount
            }
            heaps[address] = heap
        }
        guard let object = heap.object(index) else {
            throw CairnError(
                .malformed, "text of any length is not where the file says",
                .init(file: bytes.key, offset: address, expected: "object \(index) of a global heap"))
        }
        return object
    }

    /// The error of the storage, where that is what made HDF5 fail.
    func blame(_ error: CairnError) -> CairnError {
        defer { failure = nil }
        return failure ?? error.adding(.init(file: bytes.key))
    }

    private func read(
        at offset: Int, _ buffer: UnsafeMutableRawBufferPointer, _ content: cairn_h5_content
    ) -> Bool {
        let start = UInt(bitPattern: buffer.baseAddress)
        if content == cairn_h5_header, patch.fill(buffer, at: offset) { return true }
        if let target, target.contains(start), UInt(buffer.count) > target.upperBound - start {
            failure = CairnError(
                .malformed, "a part of a dataset is larger than it can be", .init(file: bytes.key, offset: offset))
            return false
        }
        do throws(CairnError) {
            var destination = buffer.mutableBytes
            try bytes.read(at: offset, into: &destination)
            if content == cairn_h5_header { try patch.apply(to: buffer, at: offset) }
            return true
        } catch {
            // What lies outside of the file is the file's fault; HDF5 says it better.
            if error.code != .incomplete { failure = error }
            return false
        }
    }

    /// Opens a dataset.
    func dataset(_ path: String) throws(CairnError) -> HDF5Handle {
        try HDF5Library.run { () throws(CairnError) in
            try HDF5Handle(H5Dopen2(id, path, defaultProperties), closing: H5Dclose, "open a dataset")
        }
    }
}

/// The default property list.
let defaultProperties: hid_t = 0
/// All of a dataspace.
let allElements: hid_t = 0

/// How long an HDF5 file says that it is: where its superblock has the end of the file.
enum PromisedLength {
    /// An error that says what is missing of a file that was cut short; `nil` where it is as long as it says, or does not
    /// say.
    static func shortfall(of file: any StorageFile) -> CairnError? {
        var offset = 0
        while offset <= file.byteCount - 64 {
            guard let block = try? file.bytes(in: offset..<offset + 64) else { return nil }
            if block.starts(with: [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) {
                guard let end = end(in: block), end > file.byteCount else { return nil }
                return CairnError(
                    .incomplete, "the HDF5 file was cut short",
                    .init(
                        file: file.key, expected: "\(end) bytes, as its superblock says", found: "\(file.byteCount)",
                        advice: "take another copy"))
            }
            offset = offset == 0 ? 512 : offset * 2
        }
        return nil
    }

    /// The address of the end of the file: behind that of the beginning and another one.
    private static func end(in block: [UInt8]) -> Int? {
        let width: Int, first: Int
        switch block[8] {
        case 0: (width, first) = (Int(block[13]), 24)
        case 1: (width, first) = (Int(block[13]), 28)
        case 2, 3: (width, first) = (Int(block[9]), 12)
        default: return nil
        }
        guard [2, 4, 8].contains(width), first + 3 * width <= block.count else { return nil }
        let bytes = block[(first + 2 * width)..<(first + 3 * width)]
        return Int(exactly: bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    }
}

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
