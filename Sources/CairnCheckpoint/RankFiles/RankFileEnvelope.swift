import CairnBase
import CairnStorage
import CairnTensor

/// What encloses the data of a rank file that is being written: its plan, the space reserved for its header, and the save
/// that it belongs to.
struct RankFileEnvelope: Sendable {
    let session: SaveSession
    let metadata: RankFileMetadata
    let plan: RankFilePlan
    let writer: any StorageWriter

    /// Makes the file of a rank, without any data yet.
    ///
    /// - Parameter isStreamed: Whether its bytes come one after the other, rather than from many threads.
    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow; what the storage throws.
    init(
        _ session: SaveSession, rank: Int, _ requests: [FragmentRequest], values: [(name: String, value: Value)],
        isStreamed: Bool = false
    ) throws(CairnError) {
        self.session = session
        metadata = try session.metadata(ofRank: rank, values: values)
        plan = try RankFilePlan(requests, metadata: metadata)
        let key = session.prefix + session.fileName(rank)
        let byteCount = plan.headerByteCount.adding(checked: plan.dataByteCount)
        writer = isStreamed
            ? try session.storage.createStreamed(key, byteCount: byteCount)
            : try session.storage.create(key, byteCount: byteCount)
    }

    /// Writes bytes at an offset of the data, and sends them on their way to the device.
    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        let position = plan.headerByteCount + offset
        try writer.write(bytes, at: position)
        writer.startWriteback(at: position, byteCount: bytes.byteCount)
    }

    /// Writes the header into the space reserved for it, makes the file durable and hands it to the save.
    ///
    /// - Parameter stored: In the order of the plan, with all chunks.
    func finish(_ stored: [StoredFragment]) throws(CairnError) {
        let header = try RankFilePlan.header(stored, metadata, minimumByteCount: plan.headerByteCount)
        guard header.count == plan.headerByteCount else {
            throw CairnError(
                .invalidArgument, "the header is longer than the space reserved for it",
                .init(file: writer.key, expected: "\(plan.headerByteCount)", found: "\(header.count)"))
        }
        let byteCount = header.count + (stored.last?.byteRange.upperBound ?? 0)
        try writer.write(header, at: 0)
        do throws(CairnError) {
            try writer.finish(byteCount: byteCount)
        } catch {
            // It may have got its name, which has the save's id, before the error: then nobody knows of it.
            try? session.storage.delete([writer.key])
            throw error
        }
        let file = Manifest.File(
            name: writer.key.split(separator: "/").last.map(String.init) ?? writer.key, rank: metadata.rank,
            byteCount: byteCount, headerByteCount: header.count, headerChecksum: CRC32C.checksum(header.span.bytes))
        try session.accept(rank: metadata.rank, file, stored)
    }

    /// The error of a file that is to be finished although bytes of a fragment have not come.
    func incomplete(_ name: String, expected: Int, found: Int) -> CairnError {
        CairnError(
            .incomplete, "the checkpoint ends before every announced byte was written",
            .init(file: writer.key, tensor: name, rank: metadata.rank, expected: "\(expected) bytes", found: "\(found)"))
    }
}
