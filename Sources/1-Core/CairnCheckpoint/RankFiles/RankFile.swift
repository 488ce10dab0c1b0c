import CairnBase
import CairnStorage
import CairnTensor

/// An open rank file: what it holds, and verified reads of any part of it.
final class RankFile: Sendable {
    let file: any StorageFile
    /// What to call it in messages.
    let location: String
    let metadata: RankFileMetadata
    let fragments: [StoredFragment]
    /// Where the data begins in the file.
    let dataStart: Int
    private let positions: [FragmentID: Int]

    /// What the manifest knows a fragment by.
    private struct FragmentID: Hashable {
        var name: ExactString
        var region: Region
    }

    /// Opens a rank file and checks it against what the manifest says of it, if there is a manifest.
    ///
    /// - Throws: ``CairnError/Code/corrupted`` when the header's checksum differs, ``CairnError/Code/incomplete`` when the
    ///   file has another length, ``CairnError/Code/malformed`` when it contradicts itself.
    static func open(
        _ file: any StorageFile, location: String, expected: Manifest.File?
    ) throws(CairnError) -> RankFile {
        do throws(CairnError) {
            if let expected { try check(file, against: expected) }
            let header = try SafeTensorsHeader.read(from: file)
            if let expected, header.dataStart != expected.headerByteCount {
                throw CairnError(
                    .malformed, "the header has another length than the manifest says",
                    .init(expected: "\(expected.headerByteCount)", found: "\(header.dataStart)"))
            }
            let metadata = try RankFileMetadata(reading: header)
            return RankFile(file, location, metadata, try metadata.fragments(header), dataStart: header.dataStart)
        } catch {
            throw error.located(at: location)
        }
    }

    private init(
        _ file: any StorageFile, _ location: String, _ metadata: RankFileMetadata, _ fragments: [StoredFragment],
        dataStart: Int
    ) {
        self.file = file
        self.location = location
        self.metadata = metadata
        self.fragments = fragments
        self.dataStart = dataStart
        positions = Dictionary(
            fragments.enumerated().map { (FragmentID(name: ExactString($1.name), region: $1.region), $0) },
            uniquingKeysWith: { first, _ in first })
    }

    private static func check(_ file: any StorageFile, against expected: Manifest.File) throws(CairnError) {
        guard file.byteCount == expected.byteCount else {
            throw CairnError(
                .incomplete, "the file has another length than the manifest says",
                .init(
                    expected: "\(expected.byteCount) bytes", found: "\(file.byteCount) bytes",
                    advice: "use an older checkpoint"))
        }
        let header = try file.bytes(in: 0..<expected.headerByteCount)
        let checksum = CRC32C.checksum(header.span.bytes)
        guard checksum == expected.headerChecksum else {
            throw CairnError(
                .corrupted, "the header does not match its checksum",
                .init(
                    offset: 0, expected: checksumText(expected.headerChecksum), found: checksumText(checksum),
                    advice: "use an older checkpoint"))
        }
    }

    /// The fragment of a tensor that is exactly `region`.
    func fragment(of name: String, region: Region) -> StoredFragment? {
        positions[FragmentID(name: ExactString(name), region: region)].map { fragments[$0] }
    }

    /// The file as a manifest lists it.
    func manifestEntry() throws(CairnError) -> Manifest.File {
        let header = try file.bytes(in: 0..<dataStart)
        return Manifest.File(
            name: file.key.split(separator: "/").last.map(String.init) ?? file.key, rank: metadata.rank,
            byteCount: file.byteCount, headerByteCount: dataStart, headerChecksum: CRC32C.checksum(header.span.bytes))
    }

    /// Fills `destination` with `region` of a fragment, counted from the fragment's own first element.
    ///
    /// Every chunk that is touched is verified; one that lies whole in the result is read straight into it.
    func read(
        _ fragment: StoredFragment, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let shape = fragment.region.shape
        let bits = fragment.scalarType.bitWidth
        let runs = RegionRuns(of: region, in: shape)
        let chunkByteCount = metadata.chunkByteCount
        let total = fragment.byteCount
        var scratch = ChunkScratch()
        var written = 0
        do throws(CairnError) {
            for run in runs {
                let (begin, end) = (run * bits / 8, (run + runs.runLength) * bits / 8)
                if (run * bits) % 8 != 0 || (runs.runLength * bits) % 8 != 0 {
                    throw CairnError(
                        .unsupported, "a region of packed elements must begin and end at whole bytes",
                        .init(found: "\(region)"))
                }
                var position = begin
                while position < end {
                    let index = position / chunkByteCount
                    let chunk = index * chunkByteCount..<min(total, (index + 1) * chunkByteCount)
                    let part = position..<min(end, chunk.upperBound)
                    var into = destination.part(written..<written + part.count)
                    if part == chunk {
                        try readChunk(fragment, index, into: &into)
                    } else {
                        try copyPart(fragment, index, chunk, part, &scratch, into: &into)
                    }
                    written += part.count
                    position = part.upperBound
                }
            }
        } catch {
            throw error.located(at: location).adding(.init(tensor: fragment.name))
        }
    }

    /// Fills `destination` with the fragment's bytes from `offset` on, a multiple of the chunk size, to the end of a chunk.
    func read(_ fragment: StoredFragment, at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        let chunkByteCount = metadata.chunkByteCount
        let end = min(offset + destination.byteCount, fragment.byteCount)
        guard offset % chunkByteCount == 0, end - offset == destination.byteCount,
            end % chunkByteCount == 0 || end == fragment.byteCount
        else {
            throw CairnError(.invalidArgument, "a run of bytes is not made of chunks", .init(file: location, offset: offset))
        }
        do throws(CairnError) {
            for begin in stride(from: offset, to: end, by: chunkByteCount) {
                var into = destination.part(begin - offset..<min(begin + chunkByteCount, end) - offset)
                try readChunk(fragment, begin / chunkByteCount, into: &into)
            }
        } catch {
            throw error.located(at: location).adding(.init(tensor: fragment.name))
        }
    }

    /// Chunks of a fragment in runs without gaps, of at most so many bytes, expanded, or one chunk.
    func runs(of chunks: some RandomAccessCollection<Int>, byteLimit: Int = readBlockByteCount) -> [Range<Int>] {
        let limit = max(1, byteLimit / metadata.chunkByteCount)
        var runs: [Range<Int>] = []
        for chunk in chunks {
            if let last = runs.last, last.upperBound == chunk, last.count < limit {
                runs[runs.count - 1] = last.lowerBound..<chunk + 1
            } else {
                runs.append(chunk..<chunk + 1)
            }
        }
        return runs
    }

    /// The fragment over the mapped file, if it is stored as it is and the storage can map.
    func mapped(_ fragment: StoredFragment) throws(CairnError) -> Tensor? {
        guard fragment.codec == .raw, let mapping = try file.map() else { return nil }
        let bytes = UnsafeRawBufferPointer(
            start: mapping.baseAddress + dataStart + fragment.byteRange.lowerBound, count: fragment.byteRange.count)
        return try Tensor(fragment.scalarType, fragment.region.shape, borrowing: bytes, keptAliveBy: mapping)
    }

    /// Memory that a read reuses from chunk to chunk.
    private struct ChunkScratch {
        /// The chunk that `plain` holds, expanded and verified.
        var index: Int?
        var plain: [UInt8] = []
    }

    /// One whole chunk, verified and expanded.
    private func readChunk(
        _ fragment: StoredFragment, _ index: Int, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let chunk = fragment.chunks[index]
        if chunk.byteCount == destination.byteCount {
            try file.read(at: dataStart + chunk.offset, into: &destination)
            try verify(CRC32C.checksum(destination.bytes), chunk, index)
            return
        }
        try ChunkWorkspace.with { (workspace) throws(CairnError) in
            let memory = workspace.stored(chunk.byteCount)
            var stored = memory.mutableBytes
            try file.read(at: dataStart + chunk.offset, into: &stored)
            try verify(CRC32C.checksum(stored.bytes), chunk, index)
            let isExpanded = destination.withUnsafeMutableBytes {
                ChunkCompression.expand(
                    UnsafeRawBufferPointer(memory), fragment.scalarType, fragment.codec, into: $0, workspace)
            }
            guard isExpanded else {
                throw CairnError(
                    .corrupted, "chunk \(index) does not expand to its length",
                    .init(offset: dataStart + chunk.offset, expected: "\(destination.byteCount) bytes"))
            }
        }
    }

    private func copyPart(
        _ fragment: StoredFragment, _ index: Int, _ chunk: Range<Int>, _ part: Range<Int>,
        _ scratch: inout ChunkScratch, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        if scratch.index != index {
            scratch.index = nil
            if scratch.plain.count != chunk.count { scratch.plain = [UInt8](repeating: 0, count: chunk.count) }
            var plain: [UInt8] = []
            swap(&plain, &scratch.plain)
            var span = plain.mutableSpan
            var bytes = span.mutableBytes
            try readChunk(fragment, index, into: &bytes)
            scratch.plain = plain
            scratch.index = index
        }
        let begin = part.lowerBound - chunk.lowerBound
        destination.withUnsafeMutableBytes { target in
            scratch.plain.withUnsafeBytes { source in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[begin..<begin + part.count]))
            }
        }
    }

    /// Compares what the stored bytes of a chunk sum to with what they should.
    func verify(_ checksum: UInt32, _ chunk: StoredChunk, _ index: Int) throws(CairnError) {
        guard checksum == chunk.checksum else {
            throw CairnError(
                .corrupted, "chunk \(index) does not match its checksum",
                .init(
                    offset: dataStart + chunk.offset, expected: checksumText(chunk.checksum),
                    found: checksumText(checksum), advice: "use an older checkpoint"))
        }
    }
}

extension CairnError {
    /// The same error with the name of the file that the caller knows it by: a layer below knew less.
    func located(at location: String) -> CairnError {
        var error = self
        error.context.file = location
        return error
    }
}

/// The names of rank files: `rank-00003-0123456789abcdef.safetensors`.
///
/// The save id is in the name so that two saves of one step that know nothing of each other never write the same file, and a
/// collector can tell whose a file is. Half of the id, 64 random bits, keeps names short and does not collide.
package enum RankFileName {
    private static let digitCount = 16
    private static let ending = ".safetensors"
    /// What a rank tells the one that commits, where they have nothing but the storage in common.
    private static let noteEnding = ".note"
    /// What keeps files that a save refers to until it is decided.
    private static let pinEnding = ".pin"
    /// The manifest of a checkpoint that another save of its step has replaced, until its files are deleted.
    private static let replacedEnding = ".replaced"

    package static func make(rank: Int, saveID: SaveID) -> String { make(rank, saveID, ending) }

    /// The name of the note that a rank leaves beside its file until the save is decided.
    package static func makeNote(rank: Int, saveID: SaveID) -> String { make(rank, saveID, noteEnding) }

    /// The name of a rank's ``SavePin``.
    static func makePin(rank: Int, saveID: SaveID) -> String { make(rank, saveID, pinEnding) }

    static func isPin(_ name: some StringProtocol) -> Bool { name.hasPrefix("rank-") && name.hasSuffix(pinEnding) }

    /// The name of a manifest that is being replaced.
    static func makeReplaced(_ saveID: SaveID) -> String { make(0, saveID, replacedEnding) }

    static func isReplaced(_ name: some StringProtocol) -> Bool { name.hasPrefix("rank-") && name.hasSuffix(replacedEnding) }

    private static func make(_ rank: Int, _ saveID: SaveID, _ ending: String) -> String {
        let digits = String(rank)
        let number = String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
        return "rank-\(number)-\(saveDigits(saveID))\(ending)"
    }

    /// What stands for a save in the names of its files.
    package static func saveDigits(_ saveID: SaveID) -> String { String(saveID.description.prefix(digitCount)) }

    /// What stands for the save in the name of a rank file, parity file or note, finished or not; `nil` for another name.
    static func saveDigits(ofName name: some StringProtocol) -> String? {
        let parts = name.utf8.split(separator: UInt8(ascii: "-"), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, ["rank", "parity"].contains(where: { parts[0].elementsEqual($0.utf8) }),
            parts[2].count > digitCount,
            [ending, noteEnding, pinEnding, replacedEnding].contains(where: {
                parts[2].dropFirst(digitCount).starts(with: $0.utf8)
            })
        else { return nil }
        return String(decoding: parts[2].prefix(digitCount), as: UTF8.self)
    }
}
