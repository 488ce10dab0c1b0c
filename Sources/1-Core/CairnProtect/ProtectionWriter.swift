import CairnBase
import CairnCheckpoint
public import CairnStorage
import Synchronization

/// How files are protected.
public struct ProtectionOptions: Sendable {
    /// How many columns, or parity files, may be lost: the number of parity files, from 1.
    public var parityCount = 2
    /// How many columns the files are arranged in; `nil` for one a file, at most 32, or eight ranges. Together with
    /// ``parityCount`` at most 255.
    public var columnCount: Int?
    /// How the files are arranged in columns.
    public var layout = ProtectionLayout.automatic
    /// The bytes of a block, which is what is rebuilt: a power of two from 512 to 4194304.
    package var blockByteCount = 256 << 10
    /// Takes the place of parity that is there already.
    public var replacing = false
    /// Reads and checks a checkpoint of Cairn before it is protected: parity of damaged files keeps the damage.
    public var verifying = true
    /// How many threads read, compute and write.
    public var concurrency = ThreadPool.processorCount
    /// Called from any of them with the number of bytes of data just protected; throwing stops.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(
        parityCount: Int = 2, columnCount: Int? = nil, layout: ProtectionLayout = .automatic, replacing: Bool = false
    ) {
        self.parityCount = parityCount
        self.columnCount = columnCount
        self.layout = layout
        self.replacing = replacing
    }
}

extension Protection {
    /// Protects files: writes parity files beside them, durably.
    ///
    /// - Parameters:
    ///   - names: The files, from the folder on.
    ///   - folder: A prefix of keys that ends in "/", or nothing for the storage itself.
    ///   - name: What the parity files are named after: `NAME.cairn-parity-00`.
    /// - Throws: ``CairnError/Code/alreadyExists`` for parity of that name unless ``ProtectionOptions/replacing``,
    ///   ``CairnError/Code/invalidArgument`` for names and counts that cannot be, what the storage throws. Nothing is left then.
    @discardableResult
    public static func protect(
        _ names: [String], in storage: any Storage, folder: String = "", as name: String,
        options: ProtectionOptions = ProtectionOptions()
    ) throws -> Protection {
        guard ParityName(ParityName(.beside(name), number: 0).text) != nil else {
            throw CairnError(.invalidArgument, "parity files cannot be named like this", .init(found: name.debugDescription))
        }
        return try ProtectionWriter(
            storage: storage, folder: folder, stem: .beside(name), names: names, saveID: nil, options: options
        ).run()
    }
}

/// Computes and writes the parity of files.
struct ProtectionWriter {
    let storage: any Storage
    let folder: String
    let stem: ParityName.Stem
    let names: [String]
    let saveID: SaveID?
    let options: ProtectionOptions

    func run() throws -> Protection {
        let present = try presentKeys()
        if let first = present.first, !options.replacing {
            throw CairnError(
                .alreadyExists, "the files are protected already",
                .init(file: storage.location(of: first), advice: "allow to replace the parity (`replacing`, --force)"))
        }
        var files: [any StorageFile] = []
        for name in names { files.append(try storage.open(folder + name)) }
        var index = try plan(files)
        let code = try ErasureCode(dataCount: index.dataCount, parityCount: index.parityCount)
        // The length of the index is known before its checksums are.
        let place = ParityRecord(text: index.encoded(), blockBytes: index.layout.parityByteCount)
        var writers: [any StorageWriter] = []
        do {
            for number in 0..<index.parityCount {
                writers.append(try storage.create(key(number), byteCount: place.byteCount))
            }
            try write(files, writers, &index, place.blockStart, code.encoding)
            let record = ParityRecord(text: index.encoded(), blockBytes: index.layout.parityByteCount)
            for (number, writer) in writers.enumerated() {
                try writer.write(record.head(number: number), at: 0)
                let tail = record.tail(number: number)
                try writer.write(tail, at: record.byteCount - tail.count)
            }
            for writer in writers { try writer.finish(byteCount: record.byteCount) }
            // Of a protection with more parity.
            let stale = present.filter { key in !(0..<index.parityCount).contains { self.key($0) == key } }
            if !stale.isEmpty { try storage.delete(stale) }
            return Protection(storage: storage, folder: folder, stem: stem, index: index, record: record)
        } catch {
            for writer in writers { writer.discard() }
            // What was finished is of no use alone.
            if present.isEmpty { try? storage.delete((0..<index.parityCount).map(key)) }
            throw error
        }
    }

    private func key(_ number: Int) -> String { folder + ParityName(stem, number: number).text }

    private func presentKeys() throws(CairnError) -> [String] {
        try storage.list(folder).map(\.key).filter { ParityName(String($0.dropFirst(folder.count)))?.stem == stem }
    }

    private func plan(_ files: [any StorageFile]) throws(CairnError) -> ParityIndex {
        guard !files.isEmpty else {
            throw CairnError(.invalidArgument, "there is no file to protect", .init(file: storage.location(of: folder)))
        }
        if let count = options.columnCount, count < 1 || count > ErasureCode.greatestCount {
            throw CairnError(
                .invalidArgument, "there cannot be so many columns",
                .init(expected: "1 to \(ErasureCode.greatestCount)", found: "\(count)"))
        }
        let sizes = zip(names, files).map { StripeLayout.File(name: $0, byteCount: $1.byteCount) }
        let columns = ColumnPlan.columns(sizes, options.layout, count: options.columnCount)
        _ = try ErasureCode(dataCount: columns.count, parityCount: options.parityCount)
        do throws(CairnError) {
            let layout = try StripeLayout(files: sizes, columns: columns, blockByteCount: options.blockByteCount)
            return ParityIndex(layout: layout, parityCount: options.parityCount, saveID: saveID)
        } catch {
            throw CairnError(.invalidArgument, error.message, error.context)
        }
    }

    /// Writes the parity of every stripe, and notes all checksums.
    private func write(
        _ files: [any StorageFile], _ writers: [any StorageWriter], _ index: inout ParityIndex, _ blockStart: Int,
        _ encoding: ErasureCode.Combination
    ) throws {
        let layout = index.layout
        let (dataCount, rowCount) = (index.dataCount, index.rowCount)
        let found = Mutex<[Int: StripeChecksums]>([:])
        let buffers = RecyclingPool<StripeBuffer>()
        try ThreadPool.shared.forEach(layout.stripeCount, width: max(1, options.concurrency)) { [options] stripe in
            let count = layout.byteCount(ofStripe: stripe)
            let buffer = buffers.take() ?? StripeBuffer(rowCount: rowCount, blockByteCount: layout.bufferByteCount)
            defer { buffers.give(buffer) }
            var checksums = StripeChecksums()
            var byteCount = 0
            for column in 0..<dataCount {
                var end = 0
                for segment in layout.segments(column: column, stripe: stripe) {
                    try buffer.fill(row: column, segment.blockRange) { bytes throws(CairnError) in
                        try files[segment.file].read(at: segment.offset, into: &bytes)
                    }
                    checksums.data.append((segment.index, buffer.checksum(row: column, segment.blockRange)))
                    end = segment.blockRange.upperBound
                    byteCount += segment.blockRange.count
                }
                buffer.clear(row: column, end..<count)
            }
            encoding.apply(to: buffer, byteCount: count)
            for (number, writer) in writers.enumerated() {
                let row = dataCount + number
                checksums.parity.append(buffer.checksum(row: row, 0..<count))
                let offset = blockStart + stripe * layout.blockByteCount
                try buffer.read(row: row, 0..<count) { bytes throws(CairnError) in try writer.write(bytes, at: offset) }
                writer.startWriteback(at: offset, byteCount: count)
            }
            found.withLock { $0[stripe] = checksums }
            try options.progress(byteCount)
        }
        for (stripe, checksums) in found.withLock({ $0 }) {
            for (segment, checksum) in checksums.data { index.dataChecksums[segment] = checksum }
            for (number, checksum) in checksums.parity.enumerated() { index.parityChecksums[number][stripe] = checksum }
        }
    }
}

private struct StripeChecksums: Sendable {
    var data: [(segment: Int, checksum: UInt32)] = []
    var parity: [UInt32] = []
}
