import CairnBase
import CairnStorage
import CairnTensor

/// Writes a checkpoint of a store from a stream of tensors: what ``copyCheckpoint(from:to:bufferByteCount:progress:)``
/// writes to when the target is Cairn's own format. One rank, uncompressed, memory bounded by the caller's buffer.
public final class CairnWriter: CheckpointWriter {
    private let session: SaveSession
    private let chunkByteCount: Int
    private var plan: RankFilePlan?
    private var metadata: RankFileMetadata?
    private var writer: (any StorageWriter)?
    /// Positions in the plan, in the order in which tensors will come.
    private var order: [Int] = []
    private var stored: [StoredFragment] = []
    /// The tensor that is being written, as an index into `order`, and how many of its bytes are.
    private var current = 0
    private var written = 0
    private var checksum: UInt32 = 0

    /// Starts a checkpoint of `step` in `store`.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` when there is one and the options do not allow to replace it.
    public init(store: CheckpointStore, step: Int, options: SaveOptions = SaveOptions()) throws {
        session = try store.beginSave(step: step, rankCount: 1, options: options)
        chunkByteCount = options.chunkByteCount
    }

    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try session.setGlobal(
            values: values.map { ($0.name, $0.value) },
            ties: tensors.compactMap { tensor in tensor.tiedTo.map { (tensor.name, $0) } })
        let metadata = try session.metadata(ofRank: 0, values: [])
        let requests = tensors.filter { $0.tiedTo == nil }.map {
            RankFilePlan.Request(
                name: $0.name, scalarType: $0.scalarType, globalShape: $0.shape, region: Region(whole: $0.shape),
                codec: .raw)
        }
        let plan = try RankFilePlan(requests, metadata: metadata)
        stored = plan.items.map(\.stored)
        for index in stored.indices { stored[index].chunks = [] }
        order = [Int](repeating: 0, count: requests.count)
        for (position, item) in plan.items.enumerated() { order[item.request] = position }
        let dataByteCount = stored.last?.byteRange.upperBound ?? 0
        writer = try session.storage.create(
            session.prefix + session.fileName(0), byteCount: plan.headerByteCount.adding(checked: dataByteCount))
        self.plan = plan
        self.metadata = metadata
        skipFinished()
        return []
    }

    public func append(_ bytes: RawSpan) throws {
        guard let plan, let writer, current < order.count else {
            throw CairnError(.invalidArgument, "more bytes than were announced")
        }
        let position = order[current]
        let range = stored[position].byteRange
        guard bytes.byteCount <= range.count - written else {
            throw CairnError(
                .invalidArgument, "more bytes than the tensor has", .init(tensor: stored[position].name))
        }
        try writer.write(bytes, at: plan.headerByteCount + range.lowerBound + written)
        writer.startWriteback(at: plan.headerByteCount + range.lowerBound + written, byteCount: bytes.byteCount)
        var begin = 0
        while begin < bytes.byteCount {
            let end = min(bytes.byteCount, begin + chunkByteCount - written % chunkByteCount)
            checksum = CRC32C.checksum(bytes.extracting(begin..<end), continuing: checksum)
            written += end - begin
            begin = end
            if written % chunkByteCount == 0 || written == range.count { closeChunk(position) }
        }
        skipFinished()
    }

    public func finish() throws {
        guard let plan, let metadata, let writer, current == order.count else {
            throw CairnError(.incomplete, "the checkpoint ends before every announced byte was written")
        }
        let file = try RankFileWriter.finish(writer, stored, metadata, plan)
        try session.accept(rank: 0, file, stored)
        try session.commit()
    }

    public func discard() {
        writer?.discard()
        session.cancel()
    }

    private func closeChunk(_ position: Int) {
        let index = stored[position].chunks.count
        stored[position].chunks.append(StoredChunk(
            offset: stored[position].byteRange.lowerBound + index * chunkByteCount,
            byteCount: written - index * chunkByteCount, checksum: checksum))
        checksum = 0
    }

    /// Goes on to the next tensor that has bytes to come.
    private func skipFinished() {
        while current < order.count, written == stored[order[current]].byteRange.count {
            current += 1
            written = 0
        }
    }
}
