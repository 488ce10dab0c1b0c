import CCairnKernels
import CZlib
import CairnBase
package import CairnCheckpoint
import CairnTensor

/// The checksum of zip archives, by zlib, and where the processor can, by its carry-less multiplication.
enum CRC32 {
    /// The checksum of `bytes`.
    static func checksum(_ bytes: RawSpan) -> UInt32 {
        bytes.withUnsafeBytes { bytes in
            var checksum: UInt32 = 0
            let done = cairn_crc32_fold(&checksum, bytes.baseAddress, bytes.count)
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            guard !rest.isEmpty else { return checksum }
            return UInt32(
                truncatingIfNeeded: crc32_z(
                    uLong(checksum), rest.bindMemory(to: UInt8.self).baseAddress, rest.count))
        }
    }

    /// The checksum of two runs of bytes that follow each other, from theirs.
    static func combine(_ first: UInt32, _ second: UInt32, secondByteCount: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: crc32_combine(uLong(first), uLong(second), secondByteCount))
    }
}

/// The checksum of a run of bytes that is read in pieces, in any order.
///
/// Pieces that touch are merged; once they are all of the run, its checksum is known although it was never read at once.
/// Pieces that overlap what is known are not used, and where there are very many loose ones, none is kept.
struct ChecksumProgress {
    private struct SummedRange {
        var range: Range<Int>
        var checksum: UInt32
    }

    private static let mostPieces = 1024

    private let byteCount: Int
    /// Sorted; no two touch.
    private var ranges: [SummedRange] = []

    init(byteCount: Int) { self.byteCount = byteCount }

    /// Takes note of a piece; the checksum of the whole run once it is known.
    mutating func add(_ range: Range<Int>, _ checksum: UInt32) -> UInt32? {
        guard !range.isEmpty else { return nil }
        let position = ranges.firstIndex { $0.range.lowerBound >= range.upperBound } ?? ranges.count
        var summed = SummedRange(range: range, checksum: checksum)
        var replaced = position..<position
        if position > 0 {
            let before = ranges[position - 1]
            guard before.range.upperBound <= range.lowerBound else { return nil }
            if before.range.upperBound == range.lowerBound {
                summed = Self.merged(before, summed)
                replaced = position - 1..<position
            }
        }
        if position < ranges.count, ranges[position].range.lowerBound == summed.range.upperBound {
            summed = Self.merged(summed, ranges[position])
            replaced = replaced.lowerBound..<position + 1
        }
        ranges.replaceSubrange(replaced, with: [summed])
        if summed.range == 0..<byteCount { return summed.checksum }
        if ranges.count > Self.mostPieces { ranges.removeAll() }
        return nil
    }

    private static func merged(_ first: SummedRange, _ second: SummedRange) -> SummedRange {
        SummedRange(
            range: first.range.lowerBound..<second.range.upperBound,
            checksum: CRC32.combine(first.checksum, second.checksum, secondByteCount: second.range.count))
    }
}

extension VerificationReport {
    /// Reads the storages of a file of PyTorch, or where those are no records of a zip archive, its tensors.
    mutating func add(_ contents: TorchContents, progress: (Int) throws -> Void) throws {
        try add(contents.storages, progress: progress)
        guard contents.storages.isEmpty else { return }
        var buffer: [UInt8] = []
        for tensor in contents.tensors {
            try addUnsummed(tensor.content, named: StateNames.joined(tensor.path), buffer: &buffer, progress: progress)
        }
    }

    /// Reads records and compares their checksums.
    package mutating func add(_ records: [ZipRecord], progress: (Int) throws -> Void) throws {
        for record in records {
            chunkCount += 1
            byteCount += record.byteCount
            if record.entry.checksum == nil { unsummedByteCount += record.byteCount }
            if let damage = try record.damage(progress: progress) { damages.append(Damage(error: damage)) }
        }
    }
}
