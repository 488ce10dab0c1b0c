public import CairnBase
public import CairnCheckpoint
import CairnDigest
public import CairnTensor
import Synchronization

/// A base and a delta, read as the checkpoint that the delta was made of.
///
/// Tensors that the delta leaves as they are load by the base's own reads. Deltas follow each other: the base of one may be what
/// another made.
public final class PatchedReader: CheckpointView {
    public let base: any CheckpointReader
    /// The delta.
    public let delta: CheckpointDelta
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    private let tables = Mutex<[Int: ChunkTable]>([:])

    public var format: String { "delta" }
    public var source: String { "\(base.source) with \(delta.source)" }
    // What the base is, and what it has beside tensors and values, is not the result's.
    public var metadata: [NamedValue] { [] }
    public var structure: StateNode? { nil }
    public var identity: CheckpointIdentity? { nil }
    public var skippedEntries: [String] { [] }
    public var skippedTensorCount: Int { 0 }

    public func rankValues() throws(CairnError) -> [RankValues] { [] }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? { nil }

    init(_ base: any CheckpointReader, _ delta: CheckpointDelta) throws(CairnError) {
        self.base = base
        self.delta = delta
        tensors = delta.contents.tensors.map(\.description)
        values = try BaseCheck(delta, base).resultValues()
    }

    /// The tensor that has the elements: itself, or the one that it is tied to.
    func entry(of name: String) throws(CairnError) -> (index: Int, entry: DeltaContents.Entry) {
        let index = try tensors.requiredPosition(of: name, in: source)
        guard let target = tensors[index].tiedTo else { return (index, delta.contents.tensors[index]) }
        let tied = try tensors.requiredPosition(of: target, in: source)
        return (tied, delta.contents.tensors[tied])
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        let entry = try entry(of: name).entry
        return entry.change == .equal ? entry.description.name : nil
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let (index, entry) = try entry(of: name)
        let tensor = entry.description
        do throws(CairnError) {
            try region.check(inside: tensor.shape, of: tensor.scalarType, filling: destination.byteCount)
            guard region.elementCount > 0 else { return }
            if entry.change != .new { try base.read(tensor.name, region: region, into: &destination) }
            if entry.change == .equal { return }
            let table = try table(index, entry)
            try destination.withUnsafeMutableBytes { target throws(CairnError) in
                try self.change(region, of: entry, table, target)
            }
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }

    public func requireStored(_ name: String) throws(CairnError) {
        let (index, entry) = try entry(of: name)
        guard entry.change == .new else { return try base.requireStored(entry.description.name) }
        guard entry.chunkCount > 0 else { return }
        let table = try table(index, entry)
        // A stored byte may stand for at most 256 before they have been read.
        guard entry.description.byteCount / 256 > max(entry.bytes.count, 1 << 18) else { return }
        for chunk in table.chunks {
            let changes = try delta.changes(chunk, of: entry.description.name)
            try DecodedChanges.with(changes, chunkByteCount: chunk.bytes.count, entry.description.scalarType) { _ in }
        }
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        let entry = try entry(of: name).entry
        guard entry.change == .new else { return try base.storedPieces(of: entry.description.name, in: region) }
        return [
            StoredPiece(
                region: Region(whole: entry.description.shape), file: delta.source, scalarType: entry.description.scalarType)
        ]
    }

    private func table(_ index: Int, _ entry: DeltaContents.Entry) throws(CairnError) -> ChunkTable {
        if let table = tables.withLock({ $0[index] }) { return table }
        let table = try delta.table(of: entry)
        tables.withLock { $0[index] = table }
        return table
    }

    /// Makes the changes that lie in a region.
    ///
    /// - Parameter target: The region's elements as the base has them, row-major.
    private func change(
        _ region: Region, of entry: DeltaContents.Entry, _ table: ChunkTable, _ target: UnsafeMutableRawBufferPointer
    ) throws(CairnError) {
        let tensor = entry.description
        guard
            var runs = PairedRuns(
                from: region, of: tensor.shape, to: Region(whole: region.shape), of: region.shape), runs.count > 0
        else { return }
        func bytes(_ elements: Int) -> Int {
            elements / 8 * tensor.scalarType.bitWidth + elements % 8 * tensor.scalarType.bitWidth / 8
        }
        let runByteCount = bytes(runs.pieceLength)
        let end = bytes(runs.sourceOffset(ofPiece: runs.count - 1)) + runByteCount
        var index = table.firstChunk(endingAfter: bytes(runs.sourceOffset(ofPiece: 0)))
        while index < table.chunks.count, table.chunks[index].bytes.lowerBound < end {
            let chunk = table.chunks[index]
            index += 1
            // The first run that ends behind the chunk's begin.
            var (low, high) = (0, runs.count)
            while low < high {
                let middle = (low + high) / 2
                if bytes(runs.sourceOffset(ofPiece: middle)) + runByteCount > chunk.bytes.lowerBound {
                    high = middle
                } else {
                    low = middle + 1
                }
            }
            guard low < runs.count, bytes(runs.sourceOffset(ofPiece: low)) < chunk.bytes.upperBound else { continue }
            guard !chunk.stored.isEmpty else {
                if entry.change == .new { throw Self.lacking }
                continue
            }
            let changes = try delta.changes(chunk, of: tensor.name)
            runs.seek(to: low)
            try DecodedChanges.with(
                changes, chunkByteCount: chunk.bytes.count, tensor.scalarType
            ) { decoded throws(CairnError) in
                if entry.change == .new, !decoded.replacesAll { throw Self.lacking }
                while let run = runs.next() {
                    let source = bytes(run.source), place = bytes(run.destination)
                    guard source < chunk.bytes.upperBound else { break }
                    let part = source..<source + runByteCount
                    let common = part.clamped(to: chunk.bytes)
                    let begin = place + common.lowerBound - source
                    decoded.apply(
                        common.lowerBound - chunk.bytes.lowerBound..<common.upperBound - chunk.bytes.lowerBound,
                        to: UnsafeMutableRawBufferPointer(rebasing: target[begin..<begin + common.count]))
                }
            }
        }
    }

    private static let lacking = CairnError(.malformed, "the delta lacks elements of a tensor that the base does not have")
}
