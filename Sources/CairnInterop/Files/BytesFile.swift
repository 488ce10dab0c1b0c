import CairnBase
import CairnStorage

/// Bytes in memory as a file.
final class BytesFile: StorageFile {
    let key: String
    private let bytes: [UInt8]
    var byteCount: Int { bytes.count }

    /// - Parameter name: What to call it in messages.
    init(_ bytes: [UInt8], name: String) {
        self.bytes = bytes
        key = name
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a part of the file ends too early",
                .init(file: key, offset: offset, expected: "\(destination.byteCount) bytes", found: "\(byteCount)"))
        }
        bytes.withUnsafeBytes { source in
            destination.withUnsafeMutableBytes { target in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + target.count]))
            }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
}
