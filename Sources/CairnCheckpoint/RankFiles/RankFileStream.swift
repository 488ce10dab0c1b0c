package import CairnBase
import CairnStorage
package import CairnTensor

/// A rank file written piece by piece, uncompressed: every fragment has its place from the start and is filled front to
/// back, several side by side if need be; checksums run along, so no byte is seen twice.
///
/// `@unchecked Sendable`: whoever holds a stream calls it from one thread at a time.
package final class RankFileStream: @unchecked Sendable {
    /// A fragment that the file will hold.
    package struct Fragment: Sendable {
        var name: String
        var scalarType: ScalarType
        var globalShape: Shape
        var region: Region

        package init(name: String, scalarType: ScalarType, globalShape: Shape, region: Region) {
            self.name = name
            self.scalarType = scalarType
            self.globalShape = globalShape
            self.region = region
        }
    }

    /// How far a fragment has come.
    private struct Progress {
        var position: Int
        var written = 0
        var checksum: UInt32 = 0
    }

    private let session: SaveSession
    private let plan: RankFilePlan
    private let metadata: RankFileMetadata
    private let writer: any StorageWriter
    /// In the order of the file.
    private var stored: [StoredFragment]
    /// In the order in which the fragments were given.
    private var progress: [Progress]

    /// Makes the file of a rank of a save, without any data yet.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow; what the storage throws.
    package init(
        _ session: SaveSession, rank: Int, fragments: [Fragment], values: [(name: String, value: Value)] = []
    ) throws(CairnError) {
        self.session = session
        metadata = try session.metadata(ofRank: rank, values: values)
        plan = try RankFilePlan(
            fragments.map {
                RankFilePlan.Request(
                    name: $0.name, scalarType: $0.scalarType, globalShape: $0.globalShape, region: $0.region, codec: .raw)
            }, metadata: metadata)
        stored = plan.items.map(\.stored)
        for index in stored.indices { stored[index].chunks = [] }
        progress = [Progress](repeating: Progress(position: 0), count: fragments.count)
        for (position, item) in plan.items.enumerated() { progress[item.request].position = position }
        let dataByteCount = stored.last?.byteRange.upperBound ?? 0
        writer = try session.storage.create(
            session.prefix + session.fileName(rank), byteCount: plan.headerByteCount.adding(checked: dataByteCount))
    }

    /// Whether all bytes of a fragment are written.
    package func isComplete(_ fragment: Int) -> Bool {
        progress[fragment].written == stored[progress[fragment].position].byteRange.count
    }

    /// Writes the next bytes of a fragment.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for more bytes than it has; what the storage throws.
    package func append(_ bytes: RawSpan, to fragment: Int) throws(CairnError) {
        var state = progress[fragment]
        let range = stored[state.position].byteRange
        guard bytes.byteCount <= range.count - state.written else {
            throw CairnError(
                .invalidArgument, "more bytes than the tensor has",
                .init(file: writer.key, tensor: stored[state.position].name, rank: metadata.rank))
        }
        let offset = plan.headerByteCount + range.lowerBound + state.written
        try writer.write(bytes, at: offset)
        writer.startWriteback(at: offset, byteCount: bytes.byteCount)
        let chunkByteCount = metadata.chunkByteCount
        var begin = 0
        while begin < bytes.byteCount {
            let end = min(bytes.byteCount, begin + chunkByteCount - state.written % chunkByteCount)
            state.checksum = CRC32C.checksum(bytes.extracting(begin..<end), continuing: state.checksum)
            state.written += end - begin
            begin = end
            if state.written % chunkByteCount == 0 || state.written == range.count {
                let index = stored[state.position].chunks.count
                stored[state.position].chunks.append(StoredChunk(
                    offset: range.lowerBound + index * chunkByteCount,
                    byteCount: state.written - index * chunkByteCount, checksum: state.checksum))
                state.checksum = 0
            }
        }
        progress[fragment] = state
    }

    /// Makes the file durable and part of its save.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when bytes are missing; what the storage throws.
    package func finish() throws(CairnError) {
        for index in progress.indices where !isComplete(index) {
            let fragment = stored[progress[index].position]
            throw CairnError(
                .incomplete, "the checkpoint ends before every announced byte was written",
                .init(file: writer.key, tensor: fragment.name, rank: metadata.rank,
                    expected: "\(fragment.byteRange.count) bytes", found: "\(progress[index].written)"))
        }
        let file = try RankFileWriter.finish(writer, stored, metadata, plan)
        try session.accept(rank: metadata.rank, file, stored)
    }

    /// Gives up and removes the file, unless it is part of its save already.
    package func discard() { writer.discard() }
}
