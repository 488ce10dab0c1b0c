package import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// A parity file around its blocks: a header of safetensors, the index and a mark in front, the same once more at the end.
///
/// ```
/// 0      header of safetensors, padded to 4096 bytes
/// 4096   mark (32 bytes), index (32 + n is a multiple of 4096)
///        the blocks, one stripe after the other
///        index, mark
/// ```
package struct ParityRecord: Sendable {
    static let headerByteCount = 4096
    private static let magic = Array("CAIRNPAR".utf8)
    private static let markByteCount = 32

    /// The text of the index, with the spaces behind it.
    let index: [UInt8]
    let blockBytes: Int
    private let indexChecksum: UInt32

    /// - Parameters:
    ///   - text: The index; spaces are added.
    ///   - blockBytes: The bytes of one file's blocks.
    package init(text: [UInt8], blockBytes: Int) {
        let rest = (text.count + Self.markByteCount) % AlignedMemory.pageSize
        let padding = rest == 0 ? 0 : AlignedMemory.pageSize - rest
        self.init(index: text + [UInt8](repeating: UInt8(ascii: " "), count: padding), blockBytes: blockBytes)
    }

    /// One whose index takes as much room as that of another.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` where the text is longer.
    init(text: [UInt8], like other: ParityRecord, blockBytes: Int) throws(CairnError) {
        guard text.count <= other.index.count else {
            throw CairnError(
                .invalidArgument, "the index is longer than the room for it",
                .init(expected: "\(other.index.count)", found: "\(text.count)"))
        }
        let padding = [UInt8](repeating: UInt8(ascii: " "), count: other.index.count - text.count)
        self.init(index: text + padding, blockBytes: blockBytes)
    }

    private init(index: [UInt8], blockBytes: Int) {
        self.index = index
        self.blockBytes = blockBytes
        indexChecksum = CRC32C.checksum(index.span.bytes)
    }

    /// Where the blocks begin.
    var blockStart: Int { Self.headerByteCount + Self.markByteCount + index.count }

    /// The length of the file.
    var byteCount: Int { blockStart + blockBytes + index.count + Self.markByteCount }

    // MARK: Writing

    /// All that stands before the blocks.
    package func head(number: Int) throws(CairnError) -> [UInt8] { try safetensorsHeader() + mark(number) + index }

    /// All that stands behind them.
    package func tail(number: Int) -> [UInt8] { index + mark(number) }

    private func mark(_ number: Int) -> [UInt8] {
        var bytes = Self.magic
        bytes.append(littleEndian: UInt32(ParityIndex.version))
        bytes.append(littleEndian: UInt32(number))
        bytes.append(littleEndian: UInt64(index.count))
        bytes.append(littleEndian: indexChecksum)
        bytes.append(littleEndian: CRC32C.checksum(bytes.span.bytes))
        return bytes
    }

    private func safetensorsHeader() throws(CairnError) -> [UInt8] {
        let record = index.count + Self.markByteCount
        let ends = [0, record, record + blockBytes, 2 * record + blockBytes]
        let entries = zip(["cairn.parity.index", "cairn.parity.blocks", "cairn.parity.index.copy"], zip(ends, ends.dropFirst()))
        let header = SafeTensorsHeader(
            entries: try entries.map { name, range throws(CairnError) in
                .init(
                    name: name, scalarType: .u8, shape: try Shape(checking: [range.1 - range.0]),
                    byteRange: range.0..<range.1)
            }, metadata: [("cairn.parity", "\(ParityIndex.version)")])
        return try header.serialized(alignment: Self.headerByteCount)
    }

    // MARK: Reading

    /// What an open file has of its index.
    struct Found: Sendable {
        let number: Int
        let index: [UInt8]
    }

    /// The index of a file, from the front or from the end: whichever is whole.
    ///
    /// - Throws: ``CairnError/Code/corrupted`` where neither is, ``CairnError/Code/unsupported`` for another version; what a
    ///   storage throws that cannot be read.
    static func read(_ file: any StorageFile) throws(CairnError) -> Found {
        if let front = try found(file, markAt: headerByteCount, isFront: true) { return front }
        if let back = try found(file, markAt: file.byteCount - markByteCount, isFront: false) { return back }
        throw CairnError(
            .corrupted, "the parity file has no index that can be read",
            .init(file: file.key, advice: "`cairn repair` writes it anew where another parity file is left"))
    }

    private static func found(_ file: any StorageFile, markAt offset: Int, isFront: Bool) throws(CairnError) -> Found? {
        guard offset >= headerByteCount, let end = offset.adding(checked: markByteCount), end <= file.byteCount else {
            return nil
        }
        guard let mark = try readable(file, offset..<end), mark.starts(with: magic) else { return nil }
        func word(_ offset: Int) -> UInt32 { mark.littleEndian(UInt32.self, at: offset) }
        guard word(28) == CRC32C.checksum(mark.span.bytes.extracting(0..<28)) else { return nil }
        let version = Int(word(8)), parity = Int(word(12))
        guard version == ParityIndex.version else {
            throw CairnError(
                .unsupported, "the parity is of another version",
                .init(file: file.key, expected: "version \(ParityIndex.version)", found: "\(version)"))
        }
        guard let count = Int(exactly: mark.littleEndian(UInt64.self, at: 16)), count <= ParityIndex.greatestByteCount,
            count <= file.byteCount - headerByteCount - markByteCount, isFront || count <= offset - headerByteCount
        else { return nil }
        let begin = isFront ? end : offset - count
        guard let index = try readable(file, begin..<begin + count),
            word(24) == CRC32C.checksum(index.span.bytes)
        else { return nil }
        return Found(number: parity, index: index)
    }

    /// The bytes of a range; `nil` where the device cannot read them, or the file has become shorter.
    private static func readable(_ file: any StorageFile, _ range: Range<Int>) throws(CairnError) -> [UInt8]? {
        do throws(CairnError) {
            return try file.bytes(in: range)
        } catch {
            guard error.code == .inputOutput || error.code == .incomplete else { throw error }
            return nil
        }
    }

    /// The record of a file that was read.
    init(_ found: Found, blockBytes: Int) { self.init(index: found.index, blockBytes: blockBytes) }
}
