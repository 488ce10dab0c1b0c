import CairnBase
import CairnStorage
import Synchronization

/// The files of a protected set, opened: their blocks, checked whenever they are read, and rebuilt from the others of a stripe.
final class ProtectedBlocks: Sendable {
    let storage: any Storage
    let folder: String
    let stem: ParityName.Stem
    let index: ParityIndex
    let record: ParityRecord
    let code: ErasureCode
    /// By number; `nil` for one that is not there.
    let files: [(any StorageFile)?]
    let parity: [(any StorageFile)?]
    /// The last way to rebuild: whole files that are lost need the same one stripe after stripe.
    private let lastRecovery = Mutex<ErasureCode.Combination?>(nil)

    /// - Throws: What a storage throws that cannot be reached. A file that is not there is lost, which is no error.
    init(
        _ storage: any Storage, folder: String, stem: ParityName.Stem, index: ParityIndex, record: ParityRecord
    ) throws(CairnError) {
        self.storage = storage
        self.folder = folder
        self.stem = stem
        self.index = index
        self.record = record
        code = try ErasureCode(dataCount: index.dataCount, parityCount: index.parityCount)
        var files: [(any StorageFile)?] = [], parity: [(any StorageFile)?] = []
        for file in index.layout.files { files.append(try Self.open(folder + file.name, storage)) }
        for number in 0..<index.parityCount {
            parity.append(try Self.open(folder + ParityName(stem, number: number).text, storage))
        }
        self.files = files
        self.parity = parity
    }

    private static func open(_ key: String, _ storage: any Storage) throws(CairnError) -> (any StorageFile)? {
        do throws(CairnError) {
            return try storage.open(key)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }

    var layout: StripeLayout { index.layout }

    func key(ofParity number: Int) -> String { folder + ParityName(stem, number: number).text }

    func makeBuffer() -> StripeBuffer { StripeBuffer(rowCount: index.rowCount, blockByteCount: layout.bufferByteCount) }

    // MARK: Reading

    /// Whether a file is long enough to hold a segment.
    func isPresent(_ segment: StripeLayout.Segment) -> Bool {
        (files[segment.file]?.byteCount ?? -1) >= segment.offset + segment.blockRange.count
    }

    func isPresent(parity number: Int, stripe: Int) -> Bool {
        let end = record.blockStart + stripe * layout.blockByteCount + layout.byteCount(ofStripe: stripe)
        return (parity[number]?.byteCount ?? -1) >= end
    }

    /// Fills `destination`, as long as the segment, with it.
    ///
    /// - Returns: Whether it is what its checksum says.
    func read(_ segment: StripeLayout.Segment, into destination: inout MutableRawSpan) throws(CairnError) -> Bool {
        guard isPresent(segment), let file = files[segment.file] else { return false }
        guard try Self.isReadable(file, at: segment.offset, &destination) else { return false }
        return CRC32C.checksum(destination.bytes) == index.dataChecksums[segment.index]
    }

    /// A block that the device cannot read is lost like one that has changed.
    private static func isReadable(
        _ file: any StorageFile, at offset: Int, _ destination: inout MutableRawSpan
    ) throws(CairnError) -> Bool {
        do throws(CairnError) {
            try file.read(at: offset, into: &destination)
            return true
        } catch {
            guard error.code == .inputOutput || error.code == .incomplete else { throw error }
            return false
        }
    }

    /// Reads a row of a stripe.
    ///
    /// - Parameter onDamage: Called for each segment that is not intact.
    /// - Returns: Whether all of it is intact.
    func load(
        row: Int, stripe: Int, into buffer: StripeBuffer, onDamage: (StripeLayout.Segment) -> Void = { _ in }
    ) throws(CairnError) -> Bool {
        let count = layout.byteCount(ofStripe: stripe)
        if row >= index.dataCount {
            let number = row - index.dataCount
            guard isPresent(parity: number, stripe: stripe), let file = parity[number] else { return false }
            let offset = record.blockStart + stripe * layout.blockByteCount
            var isReadable = false
            try buffer.fill(row: row, 0..<count) { bytes throws(CairnError) in
                isReadable = try Self.isReadable(file, at: offset, &bytes)
            }
            return isReadable && buffer.checksum(row: row, 0..<count) == index.parityChecksums[number][stripe]
        }
        var isIntact = true
        var end = 0
        for segment in layout.segments(column: row, stripe: stripe) {
            var isSegmentIntact = false
            try buffer.fill(row: row, segment.blockRange) { bytes throws(CairnError) in
                isSegmentIntact = try read(segment, into: &bytes)
            }
            if !isSegmentIntact {
                isIntact = false
                onDamage(segment)
            }
            end = segment.blockRange.upperBound
        }
        buffer.clear(row: row, end..<count)
        return isIntact
    }

    // MARK: Rebuilding

    /// Computes lost rows of a stripe from intact ones, and checks them.
    ///
    /// - Parameter isLost: What is known to be lost besides, so that it is not read.
    /// - Returns: The rows that were read; they are in the buffer too.
    /// - Throws: ``CairnError/Code/incomplete`` where too few rows are intact.
    @discardableResult
    func rebuild(
        _ wanted: [Int], ofStripe stripe: Int, in buffer: StripeBuffer, isLost: (Int) -> Bool = { _ in false }
    ) throws(CairnError) -> [Int] {
        var sources: [Int] = []
        for row in 0..<index.rowCount where !wanted.contains(row) && !isLost(row) && sources.count < index.dataCount {
            if try load(row: row, stripe: stripe, into: buffer) { sources.append(row) }
        }
        guard sources.count == index.dataCount else { throw beyondRepair(stripe, wanted) }
        let count = layout.byteCount(ofStripe: stripe)
        try recovery(of: wanted, from: sources).apply(to: buffer, byteCount: count)
        for row in wanted {
            let isRight: Bool
            if row < index.dataCount {
                isRight = layout.segments(column: row, stripe: stripe).allSatisfy {
                    buffer.checksum(row: row, $0.blockRange) == index.dataChecksums[$0.index]
                }
            } else {
                isRight = buffer.checksum(row: row, 0..<count) == index.parityChecksums[row - index.dataCount][stripe]
            }
            guard isRight else {
                throw CairnError(
                    .corrupted, "what parity gives is not what was protected: two blocks of the stripe are of different files",
                    .init(file: location(ofRow: row, stripe: stripe), found: "stripe \(stripe)"))
            }
        }
        return sources
    }

    private func recovery(of lost: [Int], from sources: [Int]) throws(CairnError) -> ErasureCode.Combination {
        if let last = lastRecovery.withLock({ $0 }), last.targets == lost, last.sources == sources { return last }
        let made = try code.recovery(of: lost, from: sources)
        lastRecovery.withLock { $0 = made }
        return made
    }

    private func location(ofRow row: Int, stripe: Int) -> String {
        guard row < index.dataCount else { return storage.location(of: key(ofParity: row - index.dataCount)) }
        let file = layout.segments(column: row, stripe: stripe).first?.file ?? 0
        return storage.location(of: folder + layout.files[file].name)
    }

    private func beyondRepair(_ stripe: Int, _ wanted: [Int]) -> CairnError {
        let segment = wanted.first.flatMap { row in
            row < index.dataCount ? layout.segments(column: row, stripe: stripe).first : nil
        }
        return CairnError(
            .incomplete, "more is lost than parity brings back",
            .init(
                file: wanted.first.map { location(ofRow: $0, stripe: stripe) }, offset: segment?.offset,
                expected: "at most \(index.parityCount) damaged blocks of \(index.rowCount) in stripe \(stripe)",
                advice: "use another copy or an older checkpoint"))
    }
}
