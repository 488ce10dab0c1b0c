import CairnBase
import CairnTensor
import Synchronization

/// What is read of one stored fragment, and where it goes.
package struct FragmentRead: Sendable {
    /// The tensor, by its own name, not a tie's.
    package var tensor: String
    /// The stored fragment.
    package var fragment: Manifest.Fragment
    /// What is wanted of it.
    package var targets: [ReadTarget]

    package init(tensor: String, fragment: Manifest.Fragment, targets: [ReadTarget]) {
        self.tensor = tensor
        self.fragment = fragment
        self.targets = targets
    }
}

extension CairnReader {
    /// A run of needed chunks of one fragment.
    private struct ChunkRun: Sendable {
        var scatter: FragmentScatter
        var chunks: Range<Int>
        var offset: Int
        var byteCount: Int
    }

    /// Reads fragments into their targets: each needed chunk once, in the order of the files, verified, several side by
    /// side; beyond the targets no memory but a buffer for each thread.
    ///
    /// - Parameter progress: Called from any reading thread with the bytes just read; throwing stops.
    /// - Returns: The stored bytes that were read, whole chunks.
    /// - Throws: What damaged, missing or contradicting files throw; what `progress` throws.
    @discardableResult
    package func read(
        _ reads: [FragmentRead], concurrency: Int = ThreadPool.usefulReadCount,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> Int {
        var pieces: [ChunkRun] = []
        for read in reads {
            let scatter = try scatter(read)
            pieces += Self.cut(scatter.chunks, of: scatter.fragment, scatter.file).map {
                ChunkRun(
                    scatter: scatter, chunks: $0, offset: scatter.fragment.chunks[$0.lowerBound].offset,
                    byteCount: scatter.fragment.chunks[$0].reduce(0) { $0 + $1.byteCount })
            }
        }
        pieces.sort { ($0.scatter.file.metadata.rank, $0.offset) < ($1.scatter.file.metadata.rank, $1.offset) }
        let work = pieces
        let buffers = Mutex<[[UInt8]]>([])
        try ThreadPool.waiting.forEach(work.count, width: concurrency) { index in
            // Buffers go from piece to piece: fresh memory costs more than the copy.
            var buffer = buffers.withLock { $0.popLast() } ?? []
            try work[index].scatter.read(chunks: work[index].chunks, buffer: &buffer)
            let used = buffer
            buffers.withLock { $0.append(used) }
            try progress(work[index].byteCount)
        }
        return work.reduce(0) { $0 + $1.byteCount }
    }

    public func read(_ requests: [RegionRequest], options: BulkReadOptions) throws {
        try read(fragmentReads(requests), concurrency: options.concurrency, progress: options.progress)
    }

    /// What requests want of each stored fragment.
    private func fragmentReads(_ requests: [RegionRequest]) throws(CairnError) -> [FragmentRead] {
        var byTensor: [ExactString: [ReadTarget]] = [:]
        for request in requests where request.region.elementCount > 0 {
            let tensor = try stored(request.name)
            guard request.region.isInside(tensor.shape) else {
                throw CairnError(
                    .mismatch, "a region lies outside its tensor",
                    .init(file: source, tensor: request.name, expected: "inside \(tensor.shape)", found: "\(request.region)"))
            }
            byTensor[ExactString(tensor.name), default: []].append(request.target)
        }
        var reads: [FragmentRead] = []
        for (name, targets) in byTensor.sorted(by: { $0.key < $1.key }) {
            // Many boxes in few fragments, such as flattened columns: asking once is cheaper than for each box.
            var few: [Manifest.Fragment]?
            if targets.count > 16, case let all = try fragments(of: name.string, intersecting: nil), all.count <= 64 {
                few = all
            }
            var positions: [Manifest.Fragment: Int] = [:]
            for target in targets {
                let near: [Manifest.Fragment]
                if let few { near = few } else { near = try fragments(of: name.string, intersecting: target.region) }
                for fragment in near {
                    guard let common = fragment.region.intersection(target.region) else { continue }
                    let part = try target.part(common)
                    if let position = positions[fragment] {
                        reads[position].targets.append(part)
                    } else {
                        positions[fragment] = reads.count
                        reads.append(FragmentRead(tensor: name.string, fragment: fragment, targets: [part]))
                    }
                }
            }
        }
        return reads
    }

    func scatter(_ read: FragmentRead) throws(CairnError) -> FragmentScatter {
        let (file, held) = try find(read.fragment, of: stored(read.tensor))
        do throws(CairnError) {
            return try FragmentScatter(file, held, read.targets)
        } catch {
            throw error.adding(.init(file: file.location, tensor: read.tensor))
        }
    }

    /// Chunks in runs without gaps, none much longer than what is read at a time.
    static func cut(
        _ chunks: [Int], of fragment: StoredFragment, _ file: RankFile, byteLimit: Int = readBlockByteCount
    ) -> [Range<Int>] {
        let limit = max(1, byteLimit / file.metadata.chunkByteCount)
        var runs: [Range<Int>] = []
        var position = 0
        while position < chunks.count {
            let first = chunks[position]
            var end = position
            while end < chunks.count, end - position < limit, chunks[end] == first + end - position { end += 1 }
            runs.append(first..<first + end - position)
            position = end
        }
        return runs
    }
}
