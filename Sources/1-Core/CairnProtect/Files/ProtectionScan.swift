import CairnBase
import CairnStorage
import Synchronization

/// What a look at all blocks of a protected set finds.
struct ProtectionScan: Sendable {
    /// The rows of a stripe that are not intact.
    private(set) var lostRows: [Int: [Int]] = [:]
    private var damaged: Set<StripeLayout.Segment> = []
    private var damagedParity: [[Int]]
    /// Parity files of which something around the blocks is damaged.
    private var damagedRecords: Set<Int> = []
    private let blocks: ProtectedBlocks
    private let isDeep: Bool
    private(set) var byteCount = 0

    /// Looks at lengths alone.
    init(measuring blocks: ProtectedBlocks) throws(CairnError) {
        do {
            try self.init(blocks, isDeep: false, concurrency: 1, progress: { _ in })
        } catch {
            throw CairnError(wrapping: error, "the protected files cannot be looked at")
        }
    }

    /// - Parameters:
    ///   - isDeep: Whether blocks are read; else only the lengths of the files are looked at.
    ///   - progress: Called from any reading thread with the number of bytes read.
    init(
        _ blocks: ProtectedBlocks, isDeep: Bool, concurrency: Int, progress: @escaping @Sendable (Int) throws -> Void
    ) throws {
        self.blocks = blocks
        self.isDeep = isDeep
        damagedParity = Array(repeating: [], count: blocks.index.parityCount)
        for number in 0..<blocks.index.parityCount where try !Self.isRecordIntact(blocks, number) {
            damagedRecords.insert(number)
        }
        let found = Mutex<[StripeDamage]>([])
        let buffers = RecyclingPool<StripeBuffer>()
        try ThreadPool.shared.forEach(blocks.layout.stripeCount, width: max(1, concurrency)) { stripe in
            let damage =
                isDeep
                ? try buffers.with(blocks.makeBuffer()) { try StripeDamage(reading: stripe, of: blocks, $0) }
                : StripeDamage(measuring: stripe, of: blocks)
            if !damage.rows.isEmpty { found.withLock { $0.append(damage) } }
            try progress(damage.byteCount)
        }
        for damage in found.withLock({ $0 }) {
            lostRows[damage.stripe] = damage.rows
            damaged.formUnion(damage.segments)
            for row in damage.rows where row >= blocks.index.dataCount {
                damagedParity[row - blocks.index.dataCount].append(damage.stripe)
            }
        }
        if isDeep {
            byteCount = blocks.layout.byteCount + blocks.index.parityCount * blocks.record.byteCount
        }
    }

    private static func isRecordIntact(_ blocks: ProtectedBlocks, _ number: Int) throws(CairnError) -> Bool {
        guard let file = blocks.parity[number] else { return false }
        let record = blocks.record
        guard file.byteCount == record.byteCount else { return false }
        let tail = record.tail(number: number)
        do throws(CairnError) {
            let foundHead = try file.bytes(in: 0..<record.blockStart)
            let foundTail = try file.bytes(in: record.byteCount - tail.count..<record.byteCount)
            return try foundHead == record.head(number: number) && foundTail == tail
        } catch {
            guard error.code == .inputOutput || error.code == .incomplete else { throw error }
            return false
        }
    }

    // MARK: Results

    func isDamaged(_ segment: StripeLayout.Segment) -> Bool { damaged.contains(segment) }

    /// The numbers of the data files that are not as they were protected.
    var flawedFiles: [Int] {
        let touched = Set(damaged.map(\.file))
        return blocks.layout.files.indices.filter {
            touched.contains($0) || blocks.files[$0]?.byteCount != blocks.layout.files[$0].byteCount
        }
    }

    /// The same of the parity files.
    var flawedParity: [Int] {
        (0..<blocks.index.parityCount).filter { damagedRecords.contains($0) || !damagedParity[$0].isEmpty }
    }

    var report: ProtectionReport {
        let layout = blocks.layout
        let parityCount = blocks.index.parityCount
        let beyond = Set(lostRows.filter { $0.value.count > parityCount }.keys)
        var segmentsOfFiles: [Int: [StripeLayout.Segment]] = [:]
        for segment in damaged { segmentsOfFiles[segment.file, default: []].append(segment) }
        var files = layout.files.enumerated().map { number, file in
            let segments = (segmentsOfFiles[number] ?? []).sorted { $0.offset < $1.offset }
            return entry(
                blocks.folder + file.name, isParity: false, file.byteCount, blocks.files[number]?.byteCount,
                segments.map { $0.offset..<$0.offset + $0.blockRange.count }, isFlawed: !segments.isEmpty,
                isRepairable: !segments.contains { beyond.contains($0.stripe) })
        }
        for number in 0..<parityCount {
            let start = blocks.record.blockStart
            let stripes = damagedParity[number].sorted()
            files.append(
                entry(
                    blocks.key(ofParity: number), isParity: true, blocks.record.byteCount, blocks.parity[number]?.byteCount,
                    stripes.map { stripe in
                        let begin = start + stripe * layout.blockByteCount
                        return begin..<begin + layout.byteCount(ofStripe: stripe)
                    }, isFlawed: !stripes.isEmpty || damagedRecords.contains(number),
                    isRepairable: !stripes.contains { beyond.contains($0) }))
        }
        // Parity without blocks, of files that are all empty, still tells which files there are.
        let missing = (0..<parityCount).count { blocks.parity[$0] == nil }
        let worst = max(lostRows.values.map(\.count).max() ?? 0, layout.stripeCount == 0 ? missing : 0)
        return ProtectionReport(
            files: files, columnCount: blocks.index.dataCount, parityCount: parityCount, isDeep: isDeep, byteCount: byteCount,
            remainingLosses: parityCount - worst)
    }

    private func entry(
        _ key: String, isParity: Bool, _ byteCount: Int, _ found: Int?, _ ranges: [Range<Int>], isFlawed: Bool,
        isRepairable: Bool
    ) -> ProtectionReport.File {
        let state: ProtectionReport.State =
            switch found {
            case nil: .lost
            case let found? where found < byteCount: .short
            case let found? where found > byteCount: .long
            default: isFlawed ? .damaged : .intact
            }
        var merged: [Range<Int>] = []
        for range in ranges {
            if let last = merged.last, last.upperBound == range.lowerBound {
                merged[merged.count - 1] = last.lowerBound..<range.upperBound
            } else {
                merged.append(range)
            }
        }
        return .init(
            location: blocks.storage.location(of: key), isParity: isParity, state: state, byteCount: byteCount,
            foundByteCount: found, damagedRanges: state == .lost ? [] : merged, isRepairable: isRepairable)
    }
}

/// What of one stripe is not intact.
private struct StripeDamage: Sendable {
    let stripe: Int
    var rows: [Int] = []
    var segments: [StripeLayout.Segment] = []
    var byteCount = 0

    init(reading stripe: Int, of blocks: ProtectedBlocks, _ buffer: StripeBuffer) throws(CairnError) {
        self.stripe = stripe
        for row in 0..<blocks.index.rowCount {
            var found: [StripeLayout.Segment] = []
            if try !blocks.load(row: row, stripe: stripe, into: buffer, onDamage: { found.append($0) }) { rows.append(row) }
            segments += found
        }
        byteCount = blocks.index.rowCount * blocks.layout.byteCount(ofStripe: stripe)
    }

    init(measuring stripe: Int, of blocks: ProtectedBlocks) {
        self.stripe = stripe
        for row in 0..<blocks.index.dataCount {
            let missing = blocks.layout.segments(column: row, stripe: stripe).filter { !blocks.isPresent($0) }
            if !missing.isEmpty { rows.append(row) }
            segments += missing
        }
        for number in 0..<blocks.index.parityCount where !blocks.isPresent(parity: number, stripe: stripe) {
            rows.append(blocks.index.dataCount + number)
        }
    }
}
