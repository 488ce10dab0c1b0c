import CairnBase
import CairnLayout
import CairnTensor

extension CheckpointStore {
    /// Makes a checkpoint self-contained: writes what it refers to in files of earlier saves into files of its own, rank by rank,
    /// and replaces it. Its tensors, values, metrics, time and lineage stay; it gets a save id of its own.
    ///
    /// The old one stays whole until the new one is durable. Files that nothing refers to any more are deleted afterwards.
    ///
    /// - Parameter progress: Called with the number of bytes just written; throwing stops.
    /// - Returns: The new manifest; the old one where the checkpoint refers to nothing.
    /// - Throws: ``CairnError/Code/notFound`` when there is no such checkpoint; what damaged files and the storage throw. The
    ///   checkpoint is as it was then.
    @discardableResult
    public func pack(step: Int, progress: @escaping @Sendable (Int) throws -> Void = { _ in }) throws -> Manifest {
        let reader = try open(step: step)
        guard !reader.manifest.earlier.isEmpty else { return reader.manifest }
        return try PackedCheckpoint(reader).write(to: self, progress: progress)
    }
}

/// A checkpoint of which each rank's file gets all that the rank holds.
private struct PackedCheckpoint {
    /// One fragment where it is now.
    private struct Part {
        var request: FragmentRequest
        var file: RankFile
        var stored: StoredFragment
    }

    private static let bufferByteCount = 8 << 20

    private let reader: CairnReader
    /// Those of each rank.
    private let parts: [[Part]]

    init(_ reader: CairnReader) throws {
        self.reader = reader
        let manifest = reader.manifest
        var parts = [[Part]](repeating: [], count: manifest.files.count)
        let layouts = try manifest.layoutIndex()
        for (position, tensor) in manifest.tensors.enumerated() {
            var plain = tensor
            plain.elsewhere = []
            // With a layout: which rank's they are, wherever they lie.
            let holders = layouts?.fragments(of: plain, at: position, intersecting: nil)
            for (index, fragment) in try reader.fragments(of: tensor.name, intersecting: nil).enumerated() {
                let (file, stored) = try reader.find(fragment, of: tensor)
                let rank = holders?[index].file ?? manifest.holder(of: fragment)
                let request = FragmentRequest(
                    name: tensor.name, scalarType: tensor.scalarType, globalShape: tensor.shape, region: fragment.region,
                    codec: stored.codec)
                parts[rank].append(Part(request: request, file: file, stored: stored))
            }
        }
        self.parts = parts
    }

    func write(to store: CheckpointStore, progress: @Sendable (Int) throws -> Void) throws -> Manifest {
        let manifest = reader.manifest
        var options = SaveOptions(metrics: manifest.metrics, lineage: manifest.lineage, replacing: true)
        options.time = manifest.time
        options.chunkByteCount = try reader.chunkByteCount()
        if parts.joined().contains(where: { $0.request.codec == .zstdPlanes }) { options.compression = .zstd() }
        let session = try store.beginSave(step: manifest.step, rankCount: parts.count, options: options)
        do {
            session.setPlaced(try manifest.placedTensors())
            try session.setGlobal(values: manifest.values, ties: manifest.ties.map { ($0.name, $0.target) })
            for rank in parts.indices { try write(rank, session, progress) }
            return try session.commit()
        } catch {
            session.cancel()
            throw error
        }
    }

    private func write(_ rank: Int, _ session: SaveSession, _ progress: (Int) throws -> Void) throws {
        let parts = parts[rank].sorted { ExactString($0.request.name) < ExactString($1.request.name) }
        let appender = try RankFileAppender(
            session, rank: rank, fragments: parts.map(\.request), values: try reader.values(ofRank: rank),
            compressesAside: true)
        do {
            var buffer = [UInt8](repeating: 0, count: Self.bufferByteCount)
            for (index, part) in parts.enumerated() {
                let step = max(1, Self.bufferByteCount / part.file.metadata.chunkByteCount) * part.file.metadata.chunkByteCount
                if buffer.count < step { buffer = [UInt8](repeating: 0, count: step) }
                for begin in stride(from: 0, to: part.stored.byteCount, by: step) {
                    let count = min(step, part.stored.byteCount - begin)
                    var span = buffer.mutableSpan
                    var bytes = span.mutableBytes
                    var target = bytes.part(0..<count)
                    try part.file.read(part.stored, at: begin, into: &target)
                    try appender.append(target.bytes, to: index)
                    try progress(count)
                }
            }
            try appender.finish()
        } catch {
            appender.discard()
            throw error
        }
    }
}

extension Manifest {
    /// The rank whose file a listed fragment belongs into.
    fileprivate func holder(of fragment: Fragment) -> Int {
        guard fragment.file >= files.count, let entry = file(fragment.file) else { return fragment.file }
        return min(entry.file.rank, files.count - 1)
    }
}
