import CairnBase
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
struct ParityRecord: Sendable {
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
    init(text: [UInt8], blockBytes: Int) {
        let rest = (text.count + Self.markByteCount) % AlignedMemory.pageSize
        let padding = rest == 0 ? 0 : AlignedMemory.pageSize - rest
        self.init(index: text + [UInt8](repeating: UInt8(ascii: " "), count: padding), blockBytes: blockBytes)
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
    func head(number: Int) throws(CairnError) -> [UInt8] { try safetensorsHeader() + mark(number) + index }

    /// All that stands behind them.
    func tail(number: Int) -> [UInt8] { index + mark(number) }

    private func mark(_ number: Int) -> [UInt8] {
        var bytes = Self.magic
        func append(_ value: Int, _ count: Int) {
            for place in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * place))) }
        }
        append(ParityIndex.version, 4)
        append(number, 4)
        append(index.count, 8)
        append(Int(indexChecksum), 4)
        append(Int(CRC32C.checksum(bytes.span.bytes)), 4)
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
        func number(_ range: Range<Int>) -> Int? {
            Int(exactly: range.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(mark[$1]) })
        }
        let markChecksum = CRC32C.checksum(mark.span.bytes.extracting(0..<28))
        guard number(28..<32) == Int(markChecksum), let version = number(8..<12) else { return nil }
        guard version == ParityIndex.version else {
            throw CairnError(
                .unsupported, "the parity is of another version",
                .init(file: file.key, expected: "version \(ParityIndex.version)", found: "\(version)"))
        }
        guard let parity = number(12..<16), let count = number(16..<24), count <= ParityIndex.greatestByteCount,
            count <= file.byteCount - headerByteCount - markByteCount, isFront || count <= offset - headerByteCount
        else { return nil }
        let begin = isFront ? end : offset - count
        guard let index = try readable(file, begin..<begin + count),
            number(24..<28) == Int(CRC32C.checksum(index.span.bytes))
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
