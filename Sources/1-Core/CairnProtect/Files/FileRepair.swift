import CairnBase
import CairnStorage

/// Writes the damaged files of a protected set anew, each whole, from what is intact of it and what parity gives.
struct FileRepair: Sendable {
    let blocks: ProtectedBlocks
    let scan: ProtectionScan
    let concurrency: Int
    let progress: @Sendable (Int) throws -> Void

    /// A file that is written, which takes the old one's place at the end.
    private struct Output: Sendable {
        let writer: any StorageWriter
        let byteCount: Int
    }

    /// - Throws: What reading and writing throw. Files that were not finished are as they were.
    func run() throws {
        var data: [Int: Output] = [:], parity: [Int: Output] = [:]
        func discard() { for output in Array(data.values) + Array(parity.values) { output.writer.discard() } }
        do {
            for number in scan.flawedFiles {
                let file = blocks.layout.files[number]
                data[number] = try output(blocks.folder + file.name, file.byteCount)
            }
            for number in scan.flawedParity {
                let made = try output(blocks.key(ofParity: number), blocks.record.byteCount)
                parity[number] = made
                try made.writer.write(blocks.record.head(number: number), at: 0)
                let tail = blocks.record.tail(number: number)
                try made.writer.write(tail, at: made.byteCount - tail.count)
            }
            let buffers = RecyclingPool<StripeBuffer>()
            let (outputs, parityOutputs) = (data, parity)
            try ThreadPool.shared.forEach(blocks.layout.stripeCount, width: max(1, concurrency)) { stripe in
                try buffers.with(blocks.makeBuffer()) { buffer in
                    try write(stripe, outputs, parityOutputs, buffer)
                }
                try progress(blocks.layout.byteCount(ofStripe: stripe))
            }
            // Data before parity: whatever of it is in place when this is cut off, is right.
            for (_, output) in data.sorted(by: { $0.key < $1.key }) { try output.writer.finish(byteCount: output.byteCount) }
            for (_, output) in parity.sorted(by: { $0.key < $1.key }) { try output.writer.finish(byteCount: output.byteCount) }
        } catch {
            discard()
            throw error
        }
    }

    private func output(_ key: String, _ byteCount: Int) throws(CairnError) -> Output {
        Output(writer: try blocks.storage.create(key, byteCount: byteCount), byteCount: byteCount)
    }

    /// Writes what a stripe has of the files.
    private func write(
        _ stripe: Int, _ data: [Int: Output], _ parity: [Int: Output], _ buffer: StripeBuffer
    ) throws(CairnError) {
        let dataCount = blocks.index.dataCount
        var segments: [StripeLayout.Segment] = []
        for column in 0..<dataCount {
            segments += blocks.layout.segments(column: column, stripe: stripe).filter { data[$0.file] != nil }
        }
        let needed = Set(segments.map(\.column)).union(parity.keys.map { dataCount + $0 })
        guard !needed.isEmpty else { return }
        let lost = scan.lostRows[stripe] ?? []
        let wanted = lost.filter(needed.contains)
        var present = Set(wanted)
        if !wanted.isEmpty {
            present.formUnion(try blocks.rebuild(wanted, ofStripe: stripe, in: buffer, isLost: lost.contains))
        }
        for row in needed.sorted() where !present.contains(row) {
            guard try blocks.load(row: row, stripe: stripe, into: buffer) else {
                throw CairnError(
                    .corrupted, "a block has changed while the files were repaired",
                    .init(found: "stripe \(stripe)", advice: "repair again"))
            }
        }
        for segment in segments {
            guard let output = data[segment.file] else { continue }
            try buffer.read(row: segment.column, segment.blockRange) { bytes throws(CairnError) in
                try output.writer.write(bytes, at: segment.offset)
            }
        }
        let count = blocks.layout.byteCount(ofStripe: stripe)
        for (number, output) in parity {
            try buffer.read(row: dataCount + number, 0..<count) { bytes throws(CairnError) in
                try output.writer.write(bytes, at: blocks.record.blockStart + stripe * blocks.layout.blockByteCount)
            }
        }
    }
}
