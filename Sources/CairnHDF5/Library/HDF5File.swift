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
    private var disguise = HeaderDisguise()
    /// The memory that HDF5 was given to read elements into.
    private var target: Range<UInt>?
    /// The global heap that was looked at last.
    private var heap: GlobalHeap?
    /// What is added to addresses in the file: the size of its user block.
    private(set) var baseAddress = 0
    /// Whether parts of headers may be kept where several objects find them.
    private var hasSharedMessages = false

    private static let tokens = Atomic<UInt64>(1)

    /// - Throws: ``CairnError/Code/malformed`` when HDF5 does not take it for one of its files.
    init(_ bytes: any StorageFile) throws(CairnError) {
        self.bytes = bytes
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
        try HDF5Library.run { () throws(CairnError) in
            let properties = try HDF5Handle(H5Fget_create_plist(id), closing: H5Pclose, "find how the file was made")
            var userBlock: hsize_t = 0
            try HDF5Library.check(H5Pget_userblock(properties.id, &userBlock), "find where the file begins")
            baseAddress = Int(clamping: userBlock)
            disguise.baseAddress = baseAddress
            var tables: UInt32 = 0
            hasSharedMessages = H5Pget_shared_mesg_nindexes(properties.id, &tables) >= 0 && tables > 0
        }
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
        if heap?.address != address { heap = try GlobalHeap(address, in: bytes, base: baseAddress) }
        guard let object = heap?.object(index) else {
            throw CairnError(
                .malformed, "text of any length is not where the file says",
                .init(file: bytes.key, offset: address, expected: "object \(index) of a global heap"))
        }
        return object
    }

    /// The layout message of the dataset at an address, if it is of version 5.
    func newerLayout(of address: UInt64) throws(CairnError) -> [UInt8]? {
        let layout = try messages(of: address)?.first { $0.kind == ObjectHeaderBlock.layoutKind && $0.flags & 2 == 0 }
        guard let content = layout?.content, content.first == 5, content.count >= 6, content[1] == 2 else { return nil }
        return content
    }

    /// The names of the attributes that are in the header of the object at an address; `nil` when they are elsewhere,
    /// and HDF5 must list them.
    ///
    /// HDF5 lists those in the header too, but where one is damaged, 1.10 then releases what it never made.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a header that is not understood.
    func attributeNames(of address: UInt64) throws(CairnError) -> [String]? {
        func malformed(_ message: String) -> CairnError {
            CairnError(.malformed, message, .init(file: bytes.key, offset: Int(exactly: address)))
        }
        guard let messages = try messages(of: address) else { throw malformed("the header of an object is damaged") }
        var names: [String] = []
        for message in messages {
            switch message.kind {
            case ObjectHeaderBlock.attributeInformationKind:
                // Where attributes are that the header has no room for.
                let place = message.content.count > 1 && message.content[1] & 1 != 0 ? 4 : 2
                if ByteFields(message.content).integer(place, 8) != nil { return nil }
            case ObjectHeaderBlock.attributeKind:
                if message.flags & 2 != 0, hasSharedMessages { return nil }
                guard message.flags & 2 == 0, let version = message.content.first,
                    let byteCount = ByteFields(message.content).integer(2, 2),
                    case let start = version == 3 ? 9 : 8, start + byteCount <= message.content.count
                else { throw malformed("an attribute is damaged") }
                let bytes = message.content[start..<start + byteCount].prefix { $0 != 0 }
                guard let name = String(validating: bytes, as: UTF8.self), !name.isEmpty else {
                    throw CairnError(.unsupported, "the name of an attribute is empty or no UTF-8")
                }
                names.append(name)
            default: break
            }
        }
        return names
    }

    /// The messages of an object's header as they are in the file; `nil` for a header that is not understood.
    private func messages(
        of address: UInt64
    ) throws(CairnError) -> [(kind: UInt8, flags: UInt8, content: [UInt8])]? {
        guard let start = Int(exactly: address)?.adding(checked: baseAddress) else { return nil }
        var pending: [(offset: Int, byteCount: Int)] = [(start, 512)]
        var form: ObjectHeaderBlock.Form?
        var messages: [(kind: UInt8, flags: UInt8, content: [UInt8])] = []
        var visits = 0
        while let (offset, byteCount) = pending.popLast() {
            visits += 1
            guard visits < 4096, offset >= 0, offset < bytes.byteCount, byteCount > 0 else { return nil }
            let end = min(bytes.byteCount, offset.adding(checked: byteCount) ?? bytes.byteCount)
            let block = try bytes.bytes(in: offset..<end)
            let parsed = block.withUnsafeBytes { ObjectHeaderBlock($0, form: form) }
            guard let parsed, form != nil || parsed.wholeByteCount <= block.count else {
                // The first block may be longer than what was read of it.
                guard form == nil, byteCount < 1 << 24, end < bytes.byteCount else { return nil }
                pending.append((offset, max(byteCount * 8, parsed?.wholeByteCount ?? 0)))
                continue
            }
            form = parsed.form
            // Headers of version 1 keep all attributes; HDF5 does not look there for a message that says otherwise.
            for message in parsed.messages
            where parsed.form != .first || message.kind != ObjectHeaderBlock.attributeInformationKind {
                let content = Array(block[message.content])
                messages.append((message.kind, message.flags, content))
                guard message.kind == ObjectHeaderBlock.continuationKind else { continue }
                let fields = ByteFields(content)
                guard let address = fields.integer(0, 8)?.adding(checked: baseAddress),
                    let length = fields.integer(8, 8), length <= 1 << 24
                else { return nil }
                pending.append((address, length))
            }
        }
        return messages
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
        if let target, target.contains(start), UInt(buffer.count) > target.upperBound - start {
            failure = CairnError(
                .malformed, "a part of a dataset is larger than it can be", .init(file: bytes.key, offset: offset))
            return false
        }
        do throws(CairnError) {
            var destination = buffer.mutableBytes
            try bytes.read(at: offset, into: &destination)
            if content == cairn_h5_heap_block { HeaderDisguise.apply(toHeapBlock: buffer) }
            if content == cairn_h5_header, !disguise.apply(to: buffer, at: offset) {
                failure = CairnError(
                    .malformed, "the header of an object is damaged", .init(file: bytes.key, offset: offset))
                return false
            }
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
