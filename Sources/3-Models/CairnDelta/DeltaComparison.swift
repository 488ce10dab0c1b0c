import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnTensor

/// Compares two checkpoints chunk by chunk: a batch is read and coded by several threads while the one before it is hashed.
struct DeltaComparison {
    /// How much of the result is in a batch, and how many chunks.
    private static let batchByteCount = 16 << 20
    private static let batchChunkCount = 128

    private let base: any CheckpointReader
    private let result: any CheckpointReader
    private let chunkByteCount: Int
    /// The tensors of the base of which nothing is taken.
    let removed: [TensorDescription]

    init(_ base: any CheckpointReader, _ result: any CheckpointReader, chunkByteCount: Int) {
        self.base = base
        self.result = result
        self.chunkByteCount = min(max(chunkByteCount, 64), ChunkTable.greatestChunkByteCount / 2)
        let all = result.tensors
        removed = base.tensors.filter { tensor in
            guard let position = all.position(of: tensor.name) else { return true }
            return all[position].tiedTo == nil && !Self.isAlike(all[position], tensor)
        }.map { TensorDescription(name: $0.name, scalarType: $0.scalarType, shape: $0.shape) }
    }

    private static func isAlike(_ one: TensorDescription, _ other: TensorDescription) -> Bool {
        one.scalarType == other.scalarType && one.shape == other.shape
    }

    /// Compares everything.
    ///
    /// - Parameters:
    ///   - progress: Called with the number of bytes of the result just compared.
    ///   - append: Takes the next stored bytes, in order.
    /// - Returns: The tensors of the result.
    func run(
        progress: (Int) throws -> Void, append: @escaping ([UInt8]) throws -> Int
    ) throws -> [DeltaContents.Entry] {
        var output = DeltaOutput(append: append)
        var batch = ChunkBatch(), hashed = ChunkBatch()
        func turn() throws {
            try work(on: batch, hashing: hashed)
            for chunk in hashed.chunks where chunk.isLast { output.finish(chunk.tensor) }
            for chunk in batch.chunks {
                try output.add(chunk)
                try progress(chunk.byteCount)
            }
            (batch, hashed) = (hashed, batch)
            batch.clear()
        }
        for description in result.tensors {
            if let target = description.tiedTo {
                output.entries.append(DeltaContents.Entry(description: description, change: .tied(target)))
                continue
            }
            let before = base.tensors.position(of: description.name).map { base.tensors[$0] }
            let isComparable = before.map { Self.isAlike($0, description) } ?? false
            let tensor = try ComparedTensor(description, isComparable: isComparable, index: output.entries.count)
            output.entries.append(DeltaContents.Entry(description: description, change: isComparable ? .equal : .new))
            let slabs = Array(SlabSequence(of: description, byteLimit: chunkByteCount))
            if slabs.isEmpty { output.finish(tensor) }
            for (index, slab) in slabs.enumerated() {
                try batch.append(slab, of: tensor, isLast: index == slabs.count - 1)
                if batch.byteCount >= Self.batchByteCount || batch.chunks.count >= Self.batchChunkCount { try turn() }
            }
        }
        try turn()
        try turn()
        return output.entries
    }

    /// Reads and codes one batch, and hashes the one that was read before.
    private func work(on batch: ChunkBatch, hashing before: ChunkBatch) throws {
        let hashes = before.hashJobs()
        let chunks = batch.chunks
        let (base, result) = (self.base, self.result)
        // Hashes take longest: they come first.
        try ThreadPool.shared.forEach(hashes.count + chunks.count) { index in
            if index < hashes.count { return try hashes[index].run() }
            let chunk = chunks[index - hashes.count]
            try chunk.read(base, result)
            chunk.code()
        }
        for chunk in before.chunks where chunk.isLast { try chunk.tensor.close() }
    }
}

/// What has been written, and what is known of each tensor.
private struct DeltaOutput {
    var entries: [DeltaContents.Entry] = []
    private let append: ([UInt8]) throws -> Int
    private var end = 0
    /// The table of the tensor whose chunks come, and where the first of them is.
    private var table: [UInt8] = []
    private var begin = 0
    private var hasChanges = false

    init(append: @escaping ([UInt8]) throws -> Int) { self.append = append }

    /// Writes the changes of the next chunk; behind the last of a tensor, the table of all.
    mutating func add(_ chunk: ComparedChunk) throws {
        if chunk.isFirst { (table, begin, hasChanges) = ([], end, false) }
        ChunkTable.write(byteCount: chunk.byteCount, stored: chunk.changes, to: &table)
        if !chunk.changes.isEmpty {
            end = try append(chunk.changes)
            hasChanges = true
        }
        guard chunk.isLast, hasChanges else { return }
        end = try append(table)
        entries[chunk.tensor.index].bytes = begin..<end
        entries[chunk.tensor.index].chunkCount = table.count / ChunkTable.entryByteCount
    }

    /// Notes the digests of a tensor.
    mutating func finish(_ tensor: ComparedTensor) {
        entries[tensor.index].sha256 = tensor.resultDigest
        if let digest = tensor.baseDigest { entries[tensor.index].change = .changed(base: digest) }
    }
}
