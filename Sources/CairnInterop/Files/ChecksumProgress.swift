import CairnBase

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
