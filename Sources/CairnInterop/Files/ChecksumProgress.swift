import CairnBase

/// The checksum of a run of bytes that is read in pieces, in any order.
///
/// Pieces that touch are merged; once they are all of the run, its checksum is known although nobody read it at once.
/// Pieces that overlap what is known are not used, and where there are very many loose ones, none is kept.
struct ChecksumProgress {
    private struct Piece {
        var range: Range<Int>
        var checksum: UInt32
    }

    private static let mostPieces = 1024

    private let byteCount: Int
    /// Sorted; no two touch.
    private var pieces: [Piece] = []

    init(byteCount: Int) { self.byteCount = byteCount }

    /// Takes note of a piece; the checksum of the whole run once it is known.
    mutating func add(_ range: Range<Int>, _ checksum: UInt32) -> UInt32? {
        guard !range.isEmpty else { return nil }
        let position = pieces.firstIndex { $0.range.lowerBound >= range.upperBound } ?? pieces.count
        var piece = Piece(range: range, checksum: checksum)
        var replaced = position..<position
        if position > 0 {
            let before = pieces[position - 1]
            guard before.range.upperBound <= range.lowerBound else { return nil }
            if before.range.upperBound == range.lowerBound {
                piece = Self.merged(before, piece)
                replaced = position - 1..<position
            }
        }
        if position < pieces.count, pieces[position].range.lowerBound == piece.range.upperBound {
            piece = Self.merged(piece, pieces[position])
            replaced = replaced.lowerBound..<position + 1
        }
        pieces.replaceSubrange(replaced, with: [piece])
        if piece.range == 0..<byteCount { return piece.checksum }
        if pieces.count > Self.mostPieces { pieces.removeAll() }
        return nil
    }

    private static func merged(_ first: Piece, _ second: Piece) -> Piece {
        Piece(
            range: first.range.lowerBound..<second.range.upperBound,
            checksum: CRC32.combine(first.checksum, second.checksum, secondByteCount: second.range.count))
    }
}
