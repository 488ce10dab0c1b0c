import CairnBase
import CairnStorage
import CairnTensor
import Synchronization

extension SaveSession {
    /// Finds what of a rank's content files of an earlier save hold already, and leaves it out. The save refers to it.
    ///
    /// What cannot be compared is written. So a damaged file of an earlier save costs nothing but its bytes.
    ///
    /// - Returns: What has to be written.
    /// - Throws: ``CairnError/Code/cancelled`` when the content's bytes have been released.
    package func withoutUnchanged(_ content: SaveContent) throws -> SaveContent {
        guard reusesUnchanged, let known else { return content }
        let origins: [(tensor: TensorIdentity, part: Region?)?] = content.fragments.map { fragment in
            fragment.origin.flatMap { origin in TensorIdentity(origin.tensor).map { ($0, origin.region) } }
        }
        var unchanged: [Int: Manifest.EarlierFile] = [:]
        do throws(CairnError) {
            if let base = try pinnedBase(rank: content.rank) {
                let search = UnchangedFragments(
                    base: base, known: known.known(ofRank: content.rank), concurrency: max(1, concurrency))
                unchanged = try search.find(content)
            }
        } catch {
            guard error.code != .cancelled else { throw error }
            unchanged = [:]
        }
        var written = content
        var groups: [(file: Manifest.EarlierFile, indices: [Int])] = []
        for (index, file) in unchanged.sorted(by: { $0.key < $1.key }) {
            if let group = groups.firstIndex(where: { $0.file == file }) {
                groups[group].indices.append(index)
            } else {
                groups.append((file, [index]))
            }
        }
        let reused = groups.map { group in
            ReusedFragments(file: group.file, fragments: group.indices.map { content.fragments[$0].request })
        }
        note(reused, ofRank: content.rank)
        var memory = SaveMemory()
        for (index, fragment) in content.fragments.enumerated() {
            if unchanged[index] != nil { fragment.release() }
            guard let origin = origins[index] else { continue }
            let key = KnownFragments.Key(name: ExactString(fragment.request.name), region: fragment.request.region)
            memory.entries.append((key, origin.tensor, origin.part, unchanged[index]))
        }
        remember(memory, ofRank: content.rank)
        // They count as written, for whoever follows the save.
        if !reused.isEmpty { try noteProgress(reused.reduce(0) { $0 + $1.byteCount }) }
        written.fragments = content.fragments.indices.filter { unchanged[$0] == nil }.map { content.fragments[$0] }
        return written
    }

    /// The newest usable checkpoint of another step, whose files are kept from now on until this save is decided.
    private func pinnedBase(rank: Int) throws(CairnError) -> CairnReader? {
        let store = CheckpointStore(storage: storage, name: storage.location(of: ""))
        let key = SavePin.key(prefix: prefix, rank: rank, saveID: saveID)
        for _ in 0..<3 {
            guard let newest = try store.newestUsable(besides: step) else { break }
            let reader = try store.open(step: newest)
            // Its name may stand there after a failure too.
            note(pin: key)
            try SavePin(keys: reader.manifest.neededKeys).publish(storage, prefix: prefix, rank: rank, saveID: saveID)
            let present = try PresentManifest(storage, prefix: StepName.prefix(newest))
            if present.manifest?.saveID == reader.manifest.saveID, present.flaw == nil { return reader }
        }
        return nil
    }
}

/// Looks which fragments of a rank are in files of a checkpoint with the same bytes.
struct UnchangedFragments {
    /// A fragment, and where the same part of the same tensor is in the checkpoint.
    private struct Candidate: Sendable {
        var index: Int
        var number: Int
        var entry: Manifest.EarlierFile
        var file: RankFile
        var stored: StoredFragment
    }

    /// Some chunks of a candidate.
    private struct Piece: Sendable {
        var candidate: Int
        var chunks: Range<Int>
    }

    /// Bytes that one thread compares at a time.
    private static let pieceByteCount = 4 << 20

    let base: CairnReader
    let known: [KnownFragments.Key: KnownFragments.Known]
    let concurrency: Int

    /// - Returns: For the index of each unchanged fragment the file that has it.
    func find(_ content: SaveContent) throws(CairnError) -> [Int: Manifest.EarlierFile] {
        let candidates = content.fragments.indices.compactMap { candidate($0, content.fragments[$0].request) }
        let isUnchanged = try compare(candidates, content.fragments)
        var found: [Int: Candidate] = [:]
        for (candidate, isUnchanged) in zip(candidates, isUnchanged) where isUnchanged { found[candidate.index] = candidate }
        if !content.placed.isEmpty { keepWholeTensors(&found, content) }
        keepLargeParts(&found)
        return found.mapValues(\.entry)
    }

    /// Where the checkpoint has the same part of the same tensor, if it can be read.
    private func candidate(_ index: Int, _ request: FragmentRequest) -> Candidate? {
        guard let tensor = try? base.stored(request.name), tensor.name == request.name,
            tensor.scalarType == request.scalarType, tensor.shape == request.globalShape,
            request.region.elementCount > 0,
            let fragments = try? base.fragments(of: request.name, intersecting: request.region),
            let fragment = fragments.first(where: { $0.region == request.region }),
            let entry = base.manifest.file(fragment.file), let (file, stored) = try? base.find(fragment, of: tensor)
        else { return nil }
        return Candidate(index: index, number: fragment.file, entry: entry, file: file, stored: stored)
    }

    /// Whether each is unchanged: by its identity, or else byte by byte.
    private func compare(_ candidates: [Candidate], _ fragments: [HeldFragment]) throws(CairnError) -> [Bool] {
        var pieces: [Piece] = []
        for (position, candidate) in candidates.enumerated() {
            let key = KnownFragments.Key(name: ExactString(candidate.stored.name), region: candidate.stored.region)
            if known[key]?.isOf(fragments[candidate.index], in: candidate.entry) == true { continue }
            let step = max(1, Self.pieceByteCount / candidate.file.metadata.chunkByteCount)
            let count = candidate.stored.chunks.count
            for first in stride(from: 0, to: count, by: step) {
                pieces.append(Piece(candidate: position, chunks: first..<min(count, first + step)))
            }
        }
        let isUnchanged = Mutex([Bool](repeating: true, count: candidates.count))
        let buffers = RecyclingPool<[UInt8]>()
        let work = pieces
        do {
            try ThreadPool.waiting.forEach(work.count, width: concurrency) { number in
                let piece = work[number]
                // One chunk that differs is enough.
                guard isUnchanged.withLock({ $0[piece.candidate] }) else { return }
                let candidate = candidates[piece.candidate]
                let isEqual = try buffers.with([]) { buffer in
                    try Self.isEqual(piece.chunks, of: candidate, fragments[candidate.index], &buffer)
                }
                if !isEqual { isUnchanged.withLock { $0[piece.candidate] = false } }
            }
        } catch {
            throw CairnError(wrapping: error, "the state could not be compared with an earlier checkpoint")
        }
        return isUnchanged.withLock { $0 }
    }

    private static func isEqual(
        _ chunks: Range<Int>, of candidate: Candidate, _ fragment: HeldFragment, _ buffer: inout [UInt8]
    ) throws -> Bool {
        let chunkByteCount = candidate.file.metadata.chunkByteCount
        let begin = chunks.lowerBound * chunkByteCount
        let end = min(candidate.stored.byteCount, chunks.upperBound * chunkByteCount)
        return try fragment.withBytes(begin..<end) { (bytes: RawSpan) throws in
            if candidate.stored.codec == .raw {
                for (position, chunk) in chunks.enumerated() {
                    let first = position * chunkByteCount
                    let sum = CRC32C.checksum(bytes.extracting(first..<min(bytes.byteCount, first + chunkByteCount)))
                    guard sum == candidate.stored.chunks[chunk].checksum else { return false }
                }
            }
            if buffer.count < end - begin { buffer = [UInt8](repeating: 0, count: end - begin) }
            var span = buffer.mutableSpan
            var target = span.mutableBytes
            var part = target.part(0..<end - begin)
            do throws(CairnError) {
                try candidate.file.read(candidate.stored, at: begin, into: &part)
            } catch {
                // What cannot be read is written anew.
                return false
            }
            return part.bytes.withUnsafeBytes { stored in bytes.withUnsafeBytes { stored.elementsEqualAsMemory($0) } }
        }
    }

    /// A rank's pieces of a tensor with a layout are in one file all together, or written all together. The file has no other
    /// pieces of it, so that a reader need not compute layouts.
    private func keepWholeTensors(_ found: inout [Int: Candidate], _ content: SaveContent) {
        var pieces: [ExactString: [Int]] = [:]
        for (index, fragment) in content.fragments.enumerated() {
            pieces[ExactString(fragment.request.name), default: []].append(index)
        }
        var counts: [Int: [ExactString: Int]] = [:]
        for indices in pieces.values {
            if let first = found[indices[0]], indices.allSatisfy({ found[$0]?.number == first.number }) {
                let inFile =
                    counts[first.number] ?? Dictionary(grouping: first.file.fragments) { ExactString($0.name) }.mapValues(\.count)
                counts[first.number] = inFile
                if inFile[ExactString(first.stored.name)] == indices.count { continue }
            }
            for index in indices { found[index] = nil }
        }
    }

    /// A file is kept for a reference as long as that lasts: only one of which at least half is still needed is worth it.
    private func keepLargeParts(_ found: inout [Int: Candidate]) {
        for (number, members) in Dictionary(grouping: found.values, by: \.number) {
            guard let file = members.first?.file else { continue }
            let needed = members.reduce(0) { $0.adding(clamped: $1.stored.byteRange.count) }
            let all = file.fragments.reduce(0) { $0.adding(clamped: $1.byteRange.count) }
            guard needed < all - needed else { continue }
            for member in members where member.number == number { found[member.index] = nil }
        }
    }
}
