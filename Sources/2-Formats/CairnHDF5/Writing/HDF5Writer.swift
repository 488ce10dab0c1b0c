import CHDF5
import CHDF5Calls
public import CairnBase
public import CairnCheckpoint
import CairnInterop
public import CairnStorage
import CairnTensor
import Synchronization

/// Writes a checkpoint as one HDF5 file that h5py and Keras read.
///
/// A tensor's name is the path of its dataset: slashes divide groups, dots are part of names, so that `f[name]` finds
/// it in h5py and ``HDF5Reader`` gives the same name back. Dictionaries of values become groups, other values
/// attributes; tied tensors are hard links.
///
/// HDF5 itself makes the file's description, in memory, and says where the elements go; these are then written past it
/// as they come. Types that NumPy lacks are opaque bytes with an attribute `dtype`, as Keras writes bfloat16.
public final class HDF5Writer: TensorStreamWriter {
    /// What the file is for.
    public enum Flavour: Sendable {
        /// Any names.
        case plain
        /// Weights that Keras 3 loads: every tensor is at `…/vars/0`, `…/vars/1` and so on.
        case kerasWeights
    }

    private static let alignment: UInt64 = 64
    private static let tokens = Atomic<UInt64>(1 << 62)

    private let storage: any Storage
    private let key: String
    private let flavour: Flavour
    private let replaces: Bool
    private var writer: (any StorageWriter)?
    private var fileByteCount = 0
    /// Where the elements of each tensor go, in the order in which they come.
    private var datasets: [(name: String, offset: Int, byteCount: Int)] = []
    package var stream = TensorStream()
    package var destination: String { storage.location(of: key) }

    /// Prepares to write to `key`, which nothing happens to before it begins.
    ///
    /// - Parameter replaces: Whether a file of that name may be there; it is replaced as a whole at the end.
    public init(storage: any Storage, key: String, flavour: Flavour = .plain, replaces: Bool = false) {
        self.storage = storage
        self.key = key
        self.flavour = flavour
        self.replaces = replaces
    }

    /// Prepares to write to a plain path.
    public convenience init(path: String, flavour: Flavour = .plain, replaces: Bool = false) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        self.init(storage: storage, key: key, flavour: flavour, replaces: replaces)
    }

    deinit { discard() }

    /// Makes the file's description.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for names that no path can be, and
    ///   for tensors that would lie inside of others.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        if !replaces { try storage.refuseExisting(key) }
        if flavour == .kerasWeights { try KerasNames.check(tensors, file: key) }
        let plan = try HDF5Plan(tensors: tensors, values: values, file: key)
        let pages = MetadataPages()
        try HDF5Library.run { () throws(CairnError) in
            var source = pages.source(token: Self.tokens.add(1, ordering: .relaxed).newValue)
            do throws(CairnError) {
                let file = try HDF5Handle(cairn_h5_create(&source, Self.alignment), closing: H5Fclose, "make a file")
                datasets = try plan.write(to: file.id)
                try HDF5Library.check(H5Fflush(file.id, H5F_SCOPE_GLOBAL), "write the description of a file")
            } catch {
                throw error.adding(.init(file: key))
            }
            // The superblock of version 2 says how long the file is.
            fileByteCount = pages.integer(at: 28, byteCount: 8) ?? 0
        }
        let writer = try storage.create(key, byteCount: fileByteCount)
        self.writer = writer
        for page in pages.sorted where page.offset < fileByteCount {
            try writer.write(Array(page.bytes.prefix(fileByteCount - page.offset)), at: page.offset)
        }
        return .init(
            items: datasets.map { .init(tensor: $0.name, byteCount: $0.byteCount) },
            notes: plan.notes + StateNode.losses(of: structure, in: .flat))
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        try writer?.write(bytes, at: datasets[item].offset + offset)
    }

    package func close() throws { try writer?.finish(byteCount: fileByteCount) }

    package func abandon() { writer?.discard() }
}

/// Where Keras 3 looks for variables.
enum KerasNames {
    /// - Throws: ``CairnError/Code/unsupported`` when a name is not one of Keras's or a number is missing.
    static func check(_ tensors: [TensorDescription], file: String) throws(CairnError) {
        var numbers: [ExactString: Set<Int>] = [:]
        for tensor in tensors {
            let parts = tensor.name.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count >= 2, parts[parts.count - 2] == "vars", let number = Int(parts[parts.count - 1]),
                number >= 0, String(number) == parts[parts.count - 1]
            else {
                throw CairnError(
                    .unsupported, "Keras finds variables by other names",
                    .init(
                        file: file, tensor: tensor.name, expected: "names such as layers/dense/vars/0",
                        advice: "rename them, or write plain hdf5"))
            }
            numbers[ExactString(parts.dropLast().joined(separator: "/")), default: []].insert(number)
        }
        for (group, found) in numbers where found.max() != found.count - 1 {
            throw CairnError(
                .unsupported, "a variable is missing among those of a layer",
                .init(file: file, tensor: group.string, expected: "0 to \(found.count - 1)", found: "\(found.sorted())")
            )
        }
    }
}

/// What HDF5 writes of a file's description, kept in memory page by page; the elements never come here.
///
/// Only touched with the library's lock held.
final class MetadataPages {
    private static let pageByteCount = 1 << 14
    private var pages: [Int: [UInt8]] = [:]

    /// The source through which HDF5 writes here, valid as long as this object lives.
    func source(token: UInt64) -> cairn_h5_source {
        cairn_h5_source(
            context: Unmanaged.passUnretained(self).toOpaque(), byte_count: 0,
            read: { context, offset, byteCount, buffer, _ in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                Unmanaged<MetadataPages>.fromOpaque(context).takeUnretainedValue()
                    .read(at: offset, UnsafeMutableRawBufferPointer(start: buffer, count: byteCount))
                return 0
            },
            write: { context, offset, byteCount, buffer in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                Unmanaged<MetadataPages>.fromOpaque(context).takeUnretainedValue()
                    .write(at: offset, UnsafeRawBufferPointer(start: buffer, count: byteCount))
                return 0
            }, token: token)
    }

    /// The pages in order, each with its offset.
    var sorted: [(offset: Int, bytes: [UInt8])] {
        pages.sorted { $0.key < $1.key }.map { ($0.key * Self.pageByteCount, $0.value) }
    }

    /// A little-endian number.
    func integer(at offset: Int, byteCount: Int) -> Int? {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        bytes.withUnsafeMutableBytes { read(at: offset, $0) }
        return ByteFields(bytes).integer(0, byteCount)
    }

    private func read(at offset: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        Self.forEachPage(offset, buffer.count) { page, within, part in
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[part])
            if let bytes = pages[page] {
                bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[within])) }
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    private func write(at offset: Int, _ buffer: UnsafeRawBufferPointer) {
        Self.forEachPage(offset, buffer.count) { page, within, part in
            pages[page, default: [UInt8](repeating: 0, count: Self.pageByteCount)].withUnsafeMutableBytes {
                UnsafeMutableRawBufferPointer(rebasing: $0[within])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[part]))
            }
        }
    }

    /// Calls `body` for each page of a range with the place in the page and the place in the range.
    private static func forEachPage(_ offset: Int, _ byteCount: Int, _ body: (Int, Range<Int>, Range<Int>) -> Void) {
        var done = 0
        while done < byteCount {
            let (page, start) = (offset + done).quotientAndRemainder(dividingBy: pageByteCount)
            let count = min(pageByteCount - start, byteCount - done)
            body(page, start..<start + count, done..<done + count)
            done += count
        }
    }
}
