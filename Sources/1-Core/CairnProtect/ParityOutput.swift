import CairnBase
import CairnCheckpoint
import CairnStorage
import Synchronization

/// The parity files of a set while they are written: stripes in any order, then the index around them.
final class ParityOutput: Sendable {
    private struct State {
        var index: ParityIndex
        var isFinished = false
    }

    private let storage: any Storage
    private let folder: String
    private let stem: ParityName.Stem
    private let options: ProtectionOptions
    /// What was there before.
    private let present: [String]
    private let writers: [any StorageWriter]
    /// Where blocks begin: the index before them has this much room.
    private let place: ParityRecord
    private let state: Mutex<State>
    private let buffers = RecyclingPool<StripeBuffer>()

    /// Begins the files.
    ///
    /// - Parameter index: With all files and their lengths; its checksums are not known yet.
    /// - Throws: ``CairnError/Code/alreadyExists`` for parity that is there unless it may be replaced; what the storage throws.
    init(
        _ storage: any Storage, folder: String, stem: ParityName.Stem, index: ParityIndex, _ options: ProtectionOptions
    ) throws(CairnError) {
        let present = try storage.list(folder).map(\.key).filter {
            ParityName(String($0.dropFirst(folder.count)))?.stem == stem
        }
        if let first = present.first, !options.replacing {
            throw CairnError(
                .alreadyExists, "the files are protected already",
                .init(file: storage.location(of: first), advice: "allow to replace the parity (`replacing`, --force)"))
        }
        // The length of the index is known before its checksums are.
        let place = ParityRecord(text: index.encoded(), blockBytes: index.layout.parityByteCount)
        var writers: [any StorageWriter] = []
        do throws(CairnError) {
            for number in 0..<index.parityCount {
                let key = folder + ParityName(stem, number: number).text
                writers.append(try storage.create(key, byteCount: place.byteCount))
            }
        } catch {
            for writer in writers { writer.discard() }
            throw error
        }
        self.storage = storage
        self.folder = folder
        self.stem = stem
        self.options = options
        self.present = present
        self.writers = writers
        self.place = place
        state = Mutex(State(index: index))
    }

    /// The index as far as it is known.
    private var index: ParityIndex { state.withLock { $0.index } }

    /// Computes and writes the parity of some stripes, and notes the checksums.
    func write(stripes: [Int], of files: [any StorageFile]) throws {
        let index = index
        let layout = index.layout
        let code = try ErasureCode(dataCount: index.dataCount, parityCount: index.parityCount)
        let encoding = code.encoding
        let found = Mutex<[(stripe: Int, StripeChecksums)]>([])
        try ThreadPool.shared.forEach(stripes.count, width: max(1, options.concurrency)) { [self] position in
            let stripe = stripes[position]
            let buffer = buffers.take() ?? StripeBuffer(rowCount: index.rowCount, blockByteCount: layout.bufferByteCount)
            defer { buffers.give(buffer) }
            var checksums = StripeChecksums()
            try fill(buffer, stripe, layout, files, &checksums)
            let count = layout.byteCount(ofStripe: stripe)
            encoding.apply(to: buffer, byteCount: count)
            for (number, writer) in writers.enumerated() {
                let row = index.dataCount + number
                checksums.parity.append(buffer.checksum(row: row, 0..<count))
                let offset = place.blockStart + stripe * layout.blockByteCount
                try buffer.read(row: row, 0..<count) { bytes throws(CairnError) in try writer.write(bytes, at: offset) }
                writer.startWriteback(at: offset, byteCount: count)
            }
            found.withLock { [checksums] in $0.append((stripe, checksums)) }
            try options.progress(checksums.byteCount)
        }
        state.withLock { state in
            for (stripe, checksums) in found.withLock({ $0 }) { state.index.note(checksums, ofStripe: stripe) }
        }
    }

    /// Reads the data of a stripe.
    private func fill(
        _ buffer: StripeBuffer, _ stripe: Int, _ layout: StripeLayout, _ files: [any StorageFile],
        _ checksums: inout StripeChecksums
    ) throws(CairnError) {
        let count = layout.byteCount(ofStripe: stripe)
        for column in 0..<layout.columns.count {
            var end = 0
            for segment in layout.segments(column: column, stripe: stripe) {
                try buffer.fill(row: column, segment.blockRange) { bytes throws(CairnError) in
                    try files[segment.file].read(at: segment.offset, into: &bytes)
                }
                checksums.data.append((segment.index, buffer.checksum(row: column, segment.blockRange)))
                end = segment.blockRange.upperBound
                checksums.byteCount += segment.blockRange.count
            }
            buffer.clear(row: column, end..<count)
        }
    }

    /// Takes another arrangement of which all stripes that are written are the same.
    ///
    /// - Returns: Whether its index has room.
    func replaceLayout(_ layout: StripeLayout) -> Bool {
        let old = index
        var made = ParityIndex(layout: layout, parityCount: old.parityCount, saveID: old.saveID)
        guard made.takeChecksums(of: old),
            let record = try? ParityRecord(text: made.encoded(), like: place, blockBytes: layout.parityByteCount),
            record.blockStart == place.blockStart
        else { return false }
        state.withLock { [made] in $0.index = made }
        return true
    }

    /// Writes what is around the blocks and makes the files durable.
    func finish() throws(CairnError) -> Protection {
        let index = index
        let record = try ParityRecord(text: index.encoded(), like: place, blockBytes: index.layout.parityByteCount)
        for (number, writer) in writers.enumerated() {
            try writer.write(record.head(number: number), at: 0)
            let tail = record.tail(number: number)
            try writer.write(tail, at: record.byteCount - tail.count)
        }
        for writer in writers { try writer.finish(byteCount: record.byteCount) }
        // Of a protection with more parity.
        let keys = (0..<index.parityCount).map { folder + ParityName(stem, number: $0).text }
        let stale = present.filter { !keys.contains($0) }
        if !stale.isEmpty { try storage.delete(stale) }
        state.withLock { $0.isFinished = true }
        return Protection(storage: storage, folder: folder, stem: stem, index: index, record: record)
    }

    /// Gives up: what was finished is of no use alone.
    func discard() {
        guard state.withLock({ !$0.isFinished }) else { return }
        for writer in writers { writer.discard() }
        if present.isEmpty { try? storage.delete(writers.map(\.key)) }
    }
}

/// What is known of a stripe that was written.
struct StripeChecksums: Sendable {
    var data: [(segment: Int, checksum: UInt32)] = []
    var parity: [UInt32] = []
    /// The bytes of data.
    var byteCount = 0
}

extension ParityIndex {
    /// Notes the checksums of a stripe.
    mutating func note(_ checksums: StripeChecksums, ofStripe stripe: Int) {
        for (segment, checksum) in checksums.data { dataChecksums[segment] = checksum }
        for (number, checksum) in checksums.parity.enumerated() { parityChecksums[number][stripe] = checksum }
    }

    /// Takes the checksums of another arrangement, whose segments and stripes come in the same order.
    ///
    /// - Returns: `false` for one that has other parity.
    mutating func takeChecksums(of other: ParityIndex) -> Bool {
        guard parityCount == other.parityCount, dataCount == other.dataCount else { return false }
        for number in 0..<min(dataChecksums.count, other.dataChecksums.count) {
            dataChecksums[number] = other.dataChecksums[number]
        }
        for (number, checksums) in other.parityChecksums.enumerated() {
            for stripe in 0..<min(checksums.count, parityChecksums[number].count) {
                parityChecksums[number][stripe] = checksums[stripe]
            }
        }
        return true
    }
}
