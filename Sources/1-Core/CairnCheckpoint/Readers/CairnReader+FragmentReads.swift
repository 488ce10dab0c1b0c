package import CairnBase
package import CairnCommunication
package import CairnTensor

/// A region of a stored tensor and the memory of a local tensor that it goes to.
///
/// `@unchecked Sendable`: the targets of one load are disjoint parts of tensors that nothing else uses yet.
package struct ReadTarget: @unchecked Sendable {
    /// The part of the whole stored tensor.
    package var region: Region
    /// The bytes of the local tensor.
    package var memory: UnsafeMutableRawBufferPointer
    /// The type of the local tensor's elements; they are converted if the stored ones are of another.
    package var scalarType: ScalarType
    /// The shape of the local tensor.
    package var shape: Shape
    /// Where the region stands in the local tensor, with the same extents.
    package var local: Region
    /// What becomes of numbers that the local tensor's type cannot hold.
    package var overflow = OverflowBehavior.ieee
    /// Where that is noted.
    package var recorder: LossRecorder?

    package init(
        region: Region, memory: UnsafeMutableRawBufferPointer, scalarType: ScalarType, shape: Shape, local: Region
    ) {
        self.region = region
        self.memory = memory
        self.scalarType = scalarType
        self.shape = shape
        self.local = local
    }

    /// All of a tensor to memory of its own.
    package init(whole shape: Shape, of scalarType: ScalarType, memory: UnsafeMutableRawBufferPointer) {
        self.init(
            region: Region(whole: shape), memory: memory, scalarType: scalarType, shape: shape, local: Region(whole: shape))
    }

    /// What a part of the region gets, which lies inside.
    package func part(_ part: Region) throws(CairnError) -> ReadTarget {
        var target = self
        target.region = part
        target.local = try part.relative(to: region.offsets).shifted(by: local.offsets)
        return target
    }

    /// The part of the memory that the region goes to, if that is one run of whole bytes.
    package var straight: UnsafeMutableRawBufferPointer? {
        var runs = RegionRuns(of: local, in: shape)
        guard runs.count == 1, let first = runs.next(), first * scalarType.bitWidth % 8 == 0,
            let begin = scalarType.byteCount(elementCount: first),
            let count = scalarType.byteCount(elementCount: local.elementCount), begin + count <= memory.count
        else { return nil }
        return UnsafeMutableRawBufferPointer(rebasing: memory[begin..<begin + count])
    }
}

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

        /// Where it stands among the files.
        var position: (Int, Int, Int) { (scatter.file.metadata.step, scatter.file.metadata.rank, offset) }
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
            pieces += scatter.file.runs(of: scatter.chunks).map {
                ChunkRun(
                    scatter: scatter, chunks: $0, offset: scatter.fragment.chunks[$0.lowerBound].offset,
                    byteCount: scatter.fragment.chunks[$0].reduce(0) { $0 + $1.byteCount })
            }
        }
        pieces.sort { $0.position < $1.position }
        let work = pieces
        let buffers = RecyclingPool<[UInt8]>()
        try ThreadPool.waiting.forEach(work.count, width: concurrency) { index in
            try buffers.with([]) { buffer in try work[index].scatter.read(chunks: work[index].chunks, buffer: &buffer) }
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
            do throws(CairnError) {
                try request.region.check(inside: tensor.shape)
            } catch {
                throw error.adding(.init(file: source, tensor: request.name))
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
}

/// A stored fragment that several ranks of a group want parts of.
package struct SharedRead: Sendable {
    /// The fragment and what this rank wants of it; no targets where it wants nothing.
    package var own: FragmentRead
    /// What each rank of the group wants: regions of the whole tensor.
    package var wanted: [[Region]]

    package init(own: FragmentRead, wanted: [[Region]]) {
        self.own = own
        self.wanted = wanted
    }
}

extension CairnReader {
    /// The bytes that a group passes on at a time.
    private static let roundByteCount = 64 << 20

    /// A run of chunks that one rank reads and passes on.
    private struct SharedPiece {
        var read: Int
        var chunks: Range<Int>
        var byteCount: Int
    }

    /// Reads fragments with the other ranks of a group: each chunk that any of them needs is read once in the group, by
    /// the rank that has read least so far, and passed on to the others. All ranks call it together with the same
    /// fragments in the same order.
    ///
    /// Takes a buffer of at most 64 MiB: 8 MiB for each rank of the group, less in groups of more than eight. A chunk for
    /// each rank it takes in any case.
    ///
    /// - Returns: The bytes that this rank read.
    /// - Throws: On every rank the error of the rank that failed.
    @discardableResult
    package func read(_ reads: [SharedRead], over group: any Communicator) throws -> Int {
        do {
            let scatters = try reads.map { try scatter($0.own) }
            let rounds = deal(reads, scatters, ranks: group.size)
            var buffer: [UInt8] = []
            var readCount = 0
            for round in rounds {
                let counts = round.map { $0?.byteCount ?? 0 }
                let total = counts.reduce(0, +)
                if buffer.count < total { buffer = [UInt8](repeating: 0, count: total) }
                try buffer.withUnsafeMutableBytes { memory in
                    let slots = UnsafeMutableRawBufferPointer(rebasing: memory[..<total])
                    var begins = [0]
                    for count in counts { begins.append(begins[begins.count - 1] + count) }
                    if let piece = round[group.rank] {
                        let scatter = scatters[piece.read]
                        var own = UnsafeMutableRawBufferPointer(
                            rebasing: slots[begins[group.rank]..<begins[group.rank + 1]]
                        ).mutableBytes
                        try scatter.file.read(
                            scatter.fragment, at: scatter.byteRange(of: piece.chunks).lowerBound, into: &own)
                        readCount += piece.byteCount
                    }
                    try group.allGather(slots, counts: counts)
                    for (rank, piece) in round.enumerated() {
                        guard let piece else { continue }
                        try scatters[piece.read].handOut(
                            UnsafeRawBufferPointer(rebasing: slots[begins[rank]..<begins[rank + 1]]), chunks: piece.chunks)
                    }
                }
            }
            return readCount
        } catch {
            let failure = CairnError(wrapping: error, "the rank could not read its part")
            group.fail(failure)
            throw failure
        }
    }

    /// Which rank reads which piece in which round: the same on every rank, since it follows from what all know.
    private func deal(_ reads: [SharedRead], _ scatters: [FragmentScatter], ranks: Int) -> [[SharedPiece?]] {
        let byteLimit = min(readBlockByteCount, Self.roundByteCount / ranks)
        var queues = [[SharedPiece]](repeating: [], count: ranks)
        var loads = [Int](repeating: 0, count: ranks)
        for (index, read) in reads.enumerated() {
            let scatter = scatters[index]
            let chunkByteCount = scatter.file.metadata.chunkByteCount
            let takers = read.wanted.indices.filter { !read.wanted[$0].isEmpty }
            let chunks = NeededChunks(
                of: read.wanted.flatMap { $0 }, in: scatter.fragment.region, scatter.fragment.scalarType,
                chunkByteCount: chunkByteCount
            ).chunks
            for run in scatter.file.runs(of: chunks, byteLimit: byteLimit) {
                let byteCount = scatter.byteRange(of: run).count
                let reader = takers.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
                queues[reader].append(SharedPiece(read: index, chunks: run, byteCount: byteCount))
                loads[reader] += byteCount
            }
        }
        return (0..<(queues.map(\.count).max() ?? 0)).map { round in
            queues.map { round < $0.count ? $0[round] : nil }
        }
    }
}
