import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor that is stored in boxes, which cover it exactly, and where they are.
struct AssembledTensor: TensorView {
    /// A box and what opens its elements.
    struct Piece: Sendable {
        var region: Region
        /// The file that holds it.
        var file: String
        var open: @Sendable () throws(CairnError) -> any TensorView
        /// The item, in whose file its own offsets are counted from its beginning.
        var location: DistributedMetadata.Location
    }

    let pieces: [Piece]
    private let view: MappedView
    var scalarType: ScalarType { view.scalarType }
    var shape: Shape { view.shape }

    init(scalarType: ScalarType, shape: Shape, pieces: [Piece]) {
        self.pieces = pieces
        view = MappedView(
            pieces.map { PieceView(piece: $0, scalarType: scalarType) },
            BoxesMapping(pieces.map(\.region), shape: shape), scalarType)
    }

    /// The boxes, or those that hold some of a region, with their files.
    ///
    /// - Parameter file: The file of boxes that do not name one.
    func storedPieces(in region: Region?, file: String) -> [StoredPiece] {
        pieces.filter { region.map($0.region.overlaps) ?? true }
            .map { StoredPiece(region: $0.region, file: $0.file.isEmpty ? file : $0.file, scalarType: scalarType) }
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try view.read(region, into: &destination)
    }
}

/// A box, opened for every read. Damage is named by its offset in the file.
private struct PieceView: TensorView {
    let piece: AssembledTensor.Piece
    let scalarType: ScalarType
    var shape: Shape { piece.region.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        do throws(CairnError) {
            try piece.open().read(region, into: &destination)
        } catch {
            throw error.code == .corrupted ? error.moved(to: piece.location) : error
        }
    }
}
