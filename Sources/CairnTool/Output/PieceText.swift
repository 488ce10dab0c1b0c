import CairnCheckpoint
import CairnTensor

/// Into which pieces a tensor is cut, in a few words: `2×2 pieces in 4 files`.
enum PieceText {
    static func describe(_ pieces: [StoredPiece]) -> String {
        let files = Set(pieces.map(\.file)).count
        let spread = files == 1 ? "in one file" : "in \(files) files"
        let dimensions = pieces.first?.region.offsets.indices ?? 0..<0
        let cuts = dimensions.map { dimension in Set(pieces.map { $0.region.offsets[dimension] }).count }
        // Pieces that are not a grid are only counted.
        let isGrid = cuts.reduce(1, *) == pieces.count
        return (isGrid ? cuts.map(String.init).joined(separator: "×") : String(pieces.count)) + " pieces \(spread)"
    }
}
