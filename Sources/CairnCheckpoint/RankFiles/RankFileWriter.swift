import CairnBase
import CairnStorage
import CairnTensor
import Synchronization

/// Writes one rank's file: data first, each chunk summed on its way out, then the header.
struct RankFileWriter {
    let storage: any Storage
    let key: String
    let metadata: RankFileMetadata
    let compression: Compression
    let concurrency: Int
    /// Called from any of the writing threads with the bytes of the last piece; throwing stops the save.
    let progress: @Sendable (Int) throws -> Void

    /// Bytes that one thread sums and writes at a time: large enough for the storage, small enough to share among threads.
    private static let pieceByteCount = 8 << 20

    /// - Returns: The file as the manifest will bind it, and the fragments in it.
    func write(_ fragments: [TensorFragment]) throws -> (file: Manifest.File, fragments: [StoredFragment]) {
        let requests = fragments.map { fragment in
            RankFilePlan.Request(
                name: fragment.name, scalarType: fragment.tensor.scalarType, globalShape: fragment.globalShape,
                region: fragment.region,
                codec: compression.isWorthwhile(fragment.tensor, metadata.chunkByteCount) ? .zstdPlanes : .raw)
        }
        let plan = try RankFilePlan(requests, metadata: metadata)
        let dataEnd = plan.items.last?.stored.byteRange.upperBound ?? 0
        let writer = try storage.create(key, byteCount: plan.headerByteCount.adding(checked: dataEnd))
        do {
            var stored = plan.items.prefix(plan.rawCount).map(\.stored)
            let raw = plan.items.prefix(plan.rawCount)
            try writeRaw(raw.map { fragments[$0.request].tensor }, &stored, plan.headerByteCount, writer)
            var offset = stored.last?.byteRange.upperBound ?? 0
            for item in plan.items.dropFirst(plan.rawCount) {
                let fragment = try writeCompressed(
                    item.stored, fragments[item.request].tensor, at: offset, plan.headerByteCount, writer)
                offset = fragment.byteRange.upperBound
                stored.append(fragment)
            }
            return (try Self.finish(writer, stored, metadata, plan), stored)
        } catch {
            writer.discard()
            throw error
        }
    }

    /// Writes the header into the room kept for it and makes the file durable.
    static func finish(
        _ writer: any StorageWriter, _ stored: [StoredFragment], _ metadata: RankFileMetadata, _ plan: RankFilePlan
    ) throws(CairnError) -> Manifest.File {
        let header = try RankFilePlan.header(stored, metadata, minimumByteCount: plan.headerByteCount)
        guard header.count == plan.headerByteCount else {
            throw CairnError(
                .invalidArgument, "the header outgrew the room that was kept for it",
                .init(file: writer.key, expected: "\(plan.headerByteCount)", found: "\(header.count)"))
        }
        let byteCount = header.count + (stored.last?.byteRange.upperBound ?? 0)
        try writer.write(header, at: 0)
        try writer.finish(byteCount: byteCount)
        return Manifest.File(
            name: writer.key.split(separator: "/").last.map(String.init) ?? writer.key, rank: metadata.rank,
            byteCount: byteCount, headerByteCount: header.count, headerChecksum: CRC32C.checksum(header.span.bytes))
    }

    /// A run of a fragment's chunks that one thread writes.
    private struct Piece: Sendable {
        var item: Int
        var chunks: Range<Int>
    }

    private func writeRaw(
        _ tensors: [Tensor], _ stored: inout [StoredFragment], _ dataStart: Int, _ writer: any StorageWriter
    ) throws {
        let chunkByteCount = metadata.chunkByteCount
        let chunksPerPiece = max(1, Self.pieceByteCount / chunkByteCount)
        var pieces: [Piece] = []
        for (index, fragment) in stored.enumerated() {
            for first in stride(from: 0, to: fragment.chunks.count, by: chunksPerPiece) {
                pieces.append(Piece(item: index, chunks: first..<min(fragment.chunks.count, first + chunksPerPiece)))
            }
        }
        let work = pieces
        let places = stored.map(\.byteRange.lowerBound)
        let finished = Mutex([[StoredChunk]](repeating: [], count: pieces.count))
        let progress = self.progress
        try ThreadPool.shared.forEach(pieces.count, width: concurrency) { index in
            let piece = work[index]
            let place = places[piece.item]
            let tensor = tensors[piece.item]
            let bytes = tensor.bytes
            var chunks: [StoredChunk] = []
            for chunk in piece.chunks {
                let range = chunk * chunkByteCount..<min(bytes.byteCount, (chunk + 1) * chunkByteCount)
                chunks.append(StoredChunk(
                    offset: place + range.lowerBound, byteCount: range.count,
                    checksum: CRC32C.checksum(bytes.extracting(range))))
            }
            let begin = piece.chunks.lowerBound * chunkByteCount
            let end = min(bytes.byteCount, piece.chunks.upperBound * chunkByteCount)
            let offset = dataStart + place + begin
            try writer.write(bytes.extracting(begin..<end), at: offset)
            writer.startWriteback(at: offset, byteCount: end - begin)
            try progress(end - begin)
            finished.withLock { $0[index] = chunks }
        }
        for index in stored.indices { stored[index].chunks = [] }
        finished.withLock { results in
            for (piece, chunks) in zip(work, results) { stored[piece.item].chunks += chunks }
        }
    }

    /// Compresses a batch of chunks at a time side by side and writes them one after the other.
    private func writeCompressed(
        _ planned: StoredFragment, _ tensor: Tensor, at start: Int, _ dataStart: Int, _ writer: any StorageWriter
    ) throws -> StoredFragment {
        let chunkByteCount = metadata.chunkByteCount
        let level = compression.level ?? 1
        let batch = max(1, min(concurrency, ThreadPool.shared.threadCount)) * 2
        var fragment = planned
        fragment.chunks = []
        var offset = start
        for first in stride(from: 0, to: planned.chunks.count, by: batch) {
            let count = min(batch, planned.chunks.count - first)
            let results = Mutex([[UInt8]?](repeating: nil, count: count))
            func range(_ index: Int) -> Range<Int> {
                let begin = (first + index) * chunkByteCount
                return begin..<min(tensor.byteCount, begin + chunkByteCount)
            }
            let ranges = (0..<count).map(range)
            try ThreadPool.shared.forEach(count, width: concurrency) { index in
                let compressed = ChunkCompression.compress(
                    tensor.bytes.extracting(ranges[index]), tensor.scalarType, level: level)
                results.withLock { $0[index] = compressed }
            }
            for (range, compressed) in zip(ranges, results.withLock({ $0 })) {
                let length: Int
                let checksum: UInt32
                if let compressed {
                    length = compressed.count
                    checksum = CRC32C.checksum(compressed.span.bytes)
                    try writer.write(compressed, at: dataStart + offset)
                } else {
                    let bytes = tensor.bytes.extracting(range)
                    length = range.count
                    checksum = CRC32C.checksum(bytes)
                    try writer.write(bytes, at: dataStart + offset)
                }
                fragment.chunks.append(StoredChunk(offset: offset, byteCount: length, checksum: checksum))
                offset += length
                try progress(range.count)
            }
        }
        fragment.byteRange = start..<offset
        return fragment
    }
}
