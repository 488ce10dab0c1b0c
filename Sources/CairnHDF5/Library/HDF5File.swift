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

    private static let tokens = Atomic<UInt64>(1)

    /// - Throws: ``CairnError/Code/malformed`` when HDF5 does not take it for one of its files.
    init(_ bytes: any StorageFile) throws(CairnError) {
        self.bytes = bytes
        var source = cairn_h5_source(
            context: Unmanaged.passUnretained(self).toOpaque(), byte_count: UInt64(bytes.byteCount),
            read: { context, offset, byteCount, buffer in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                let file = Unmanaged<HDF5File>.fromOpaque(context).takeUnretainedValue()
                return file.read(at: offset, UnsafeMutableRawBufferPointer(start: buffer, count: byteCount)) ? 0 : -1
            }, write: nil, token: Self.tokens.add(1, ordering: .relaxed).newValue)
        id = try HDF5Library.run { () throws(CairnError) -> hid_t in
            let id = cairn_h5_open(&source)
            guard id >= 0 else { throw blame(HDF5Library.failure("open the file", .init(file: bytes.key))) }
            return id
        }
    }

    deinit {
        guard id >= 0 else { return }
        HDF5Library.close { H5Fclose(id) }
    }

    /// The error of the storage, where that is what made HDF5 fail.
    func blame(_ error: CairnError) -> CairnError {
        defer { failure = nil }
        return failure ?? error.adding(.init(file: bytes.key))
    }

    private func read(at offset: Int, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        do throws(CairnError) {
            var destination = buffer.mutableBytes
            try bytes.read(at: offset, into: &destination)
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
            try HDF5Handle(H5Dopen2(id, path, H5P_DEFAULT_), closing: H5Dclose, "open a dataset")
        }
    }
}

/// The default property list.
let H5P_DEFAULT_: hid_t = 0
/// All of a dataspace.
let H5S_ALL_: hid_t = 0
