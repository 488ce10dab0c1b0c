import CairnBase
import CairnCheckpoint
import CairnStorage
import Synchronization

/// Parity of a checkpoint that one rank saves, computed from the state in memory while its file is written: no byte is read
/// back from the disk.
///
/// The rank file is cut in ranges, as for a checkpoint that is protected later. What is not known before the commit is the
/// header, which is written last, and the manifest, which stands behind the last range. So the stripes with these, a few, and
/// the index are written after the commit.
final class SaveProtection: Sendable {
    /// More than a manifest takes, beside a header that says the same of every tensor.
    private static let manifestRoom = 1 << 20

    private let output: ParityOutput
    private let placement: RankFilePlacement
    private let byteCount: Int
    private let manifestName: String
    private let options: ProtectionOptions
    private let early: [Int]
    private let result = Monitor<Result<Void, any Error>?>(nil)

    /// - Returns: `nil` where parity cannot be computed before the file is there: it is compressed, or whole files are columns,
    ///   or it is too small to be worth it.
    init?(
        _ session: SaveSession, _ placement: RankFilePlacement, _ options: ProtectionOptions
    ) throws(CairnError) {
        guard let byteCount = placement.byteCount, options.layout != .files, byteCount >= 64 * options.blockByteCount else {
            return nil
        }
        try options.check()
        self.placement = placement
        self.byteCount = byteCount
        self.options = options
        manifestName = CairnReader.manifestName
        let room = Self.manifestRoom.adding(clamped: placement.headerByteCount).adding(clamped: placement.headerByteCount)
        let layout = try Self.layout(placement, byteCount: byteCount, manifest: room, options)
        let stem = ParityName.Stem.ofSave(digits: RankFileName.saveDigits(session.saveID))
        let index = ParityIndex(layout: layout, parityCount: options.parityCount, saveID: session.saveID)
        _ = try ErasureCode(dataCount: index.dataCount, parityCount: index.parityCount)
        output = try ParityOutput(session.storage, folder: session.prefix, stem: stem, index: index, options)
        early = Self.early(layout, placement, byteCount: byteCount)
    }

    /// The ranges of the rank file as columns, and the manifest behind the last.
    private static func layout(
        _ placement: RankFilePlacement, byteCount: Int, manifest: Int, _ options: ProtectionOptions
    ) throws(CairnError) -> StripeLayout {
        let name = placement.key.lastIndex(of: "/").map { String(placement.key[placement.key.index(after: $0)...]) }
        let files = [
            StripeLayout.File(name: name ?? placement.key, byteCount: byteCount),
            .init(name: CairnReader.manifestName, byteCount: manifest),
        ]
        var columns = ColumnPlan.columns([files[0]], .ranges, count: options.columnCount)
        columns[columns.count - 1].append(.init(file: 1, offset: 0, byteCount: manifest))
        return try StripeLayout(files: files, columns: columns, blockByteCount: options.blockByteCount)
    }

    /// The stripes without a byte of the header or the manifest.
    private static func early(_ layout: StripeLayout, _ placement: RankFilePlacement, byteCount: Int) -> [Int] {
        let block = layout.blockByteCount
        let first = placement.headerByteCount.dividedRoundingUp(by: block)
        let last = layout.columns.map { column in column.reduce(0) { $0 + ($1.file == 0 ? $1.byteCount : 0) } }.min() ?? 0
        return first < last / block ? Array(first..<last / block) : []
    }

    /// Begins to compute, on threads of its own.
    func start(_ content: SaveContent) {
        let file = HeldFile(content, placement, byteCount: byteCount)
        startThread { [self] in
            let ending = Result { try output.write(stripes: early, of: [file, file]) }
            result.change { $0 = ending }
        }
    }

    /// Waits for what was begun.
    ///
    /// - Throws: What computing threw.
    func wait() throws {
        let ending = result.wait { (ending: inout Swift.Result<Void, any Error>?) in ending }
        try ending?.get()
    }

    /// Completes the parity of a checkpoint that is committed.
    ///
    /// - Returns: `nil` where its manifest is longer than was thought.
    func finish(in storage: any Storage, folder: String) throws -> Protection? {
        let manifest = try storage.open(folder + manifestName)
        let layout = try Self.layout(placement, byteCount: byteCount, manifest: manifest.byteCount, options)
        guard output.replaceLayout(layout) else { return nil }
        let file = try storage.open(placement.key)
        guard file.byteCount == byteCount else { return nil }
        let done = Set(early)
        try output.write(stripes: (0..<layout.stripeCount).filter { !done.contains($0) }, of: [file, manifest])
        return try output.finish()
    }

    /// Gives up; waits until nothing is computed any more.
    func discard() {
        try? wait()
        output.discard()
    }
}

/// A rank file as it will be, read from the state; its header is not in it.
private final class HeldFile: StorageFile {
    let key: String
    let byteCount: Int
    private let content: SaveContent
    private let fragments: [(number: Int, byteRange: Range<Int>)]

    init(_ content: SaveContent, _ placement: RankFilePlacement, byteCount: Int) {
        key = placement.key
        self.byteCount = byteCount
        self.content = content
        fragments = placement.fragments.filter { !$0.byteRange.isEmpty }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }

    private static func copy(_ bytes: RawSpan, to destination: inout MutableRawSpan) {
        bytes.withUnsafeBytes { source in destination.withUnsafeMutableBytes { $0.copyMemory(from: source) } }
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        // The first fragment that ends behind the offset.
        var low = 0, high = fragments.count
        while low < high {
            let middle = (low + high) / 2
            if fragments[middle].byteRange.upperBound <= offset { low = middle + 1 } else { high = middle }
        }
        var position = offset
        let end = offset + destination.byteCount
        while position < end, low < fragments.count {
            let (number, range) = fragments[low]
            let part = max(position, range.lowerBound)..<min(end, range.upperBound)
            guard part.lowerBound == position, !part.isEmpty else { break }
            var target = destination.part(part.lowerBound - offset..<part.upperBound - offset)
            do {
                try content.fragments[number].withBytes(part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound) {
                    Self.copy($0, to: &target)
                }
            } catch {
                throw CairnError(wrapping: error, "a tensor could not be read while parity was computed")
            }
            position = part.upperBound
            low += 1
        }
        // Between the fragments, and behind them, there is nothing.
        guard position == end else {
            throw StorageKey.shortRead(
                of: key, at: offset, expected: destination.byteCount, found: position - offset, byteCount: byteCount)
        }
    }
}
