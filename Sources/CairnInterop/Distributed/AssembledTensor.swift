import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor that is stored in boxes, which cover it exactly.
struct AssembledTensor: TensorContent {
    /// A box and what opens its elements.
    struct Piece: Sendable {
        var region: Region
        /// The file that holds it.
        var file: String
        var open: @Sendable () throws(CairnError) -> any TensorContent
        /// The item, in whose file its own offsets are counted from its beginning.
        var location: DistributedMetadata.Location
    }

    private static let slabByteCount = 4 << 20

    let scalarType: ScalarType
    let shape: Shape
    let pieces: [Piece]
    /// Finds the pieces that a region meets; of few, all are looked at.
    private let index: RegionIndex?

    private static let fewPieces = 8

    init(scalarType: ScalarType, shape: Shape, pieces: [Piece]) {
        self.scalarType = scalarType
        self.shape = shape
        self.pieces = pieces
        index = pieces.count > Self.fewPieces ? RegionIndex(pieces.map(\.region)) : nil
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        for position in index?.positions(meeting: region) ?? Array(pieces.indices) {
            let piece = pieces[position]
            guard let common = piece.region.intersection(region) else { continue }
            do throws(CairnError) {
                let content = try piece.open()
                if common == region {
                    try content.read(common.relative(to: piece.region.offsets), into: &destination)
                } else {
                    try copy(common, of: piece, content, to: region, &destination)
                }
            } catch {
                throw error.code == .corrupted ? error.moved(to: piece.location) : error
            }
        }
    }

    /// Copies part of a piece to its place, in slabs so that the extra memory stays bounded.
    private func copy(
        _ common: Region, of piece: Piece, _ content: any TensorContent, to region: Region,
        _ destination: inout MutableRawSpan
    ) throws(CairnError) {
        let description = TensorDescription(name: "", scalarType: scalarType, shape: common.shape)
        for slab in SlabSequence(of: description, byteLimit: Self.slabByteCount) {
            let part = try Region(offsets: zip(slab.offsets, common.offsets).map { $0 + $1 }, shape: slab.shape)
            var bytes = try Tensor(zeros: scalarType, part.shape)
            var span = bytes.mutableBytes
            try content.read(part.relative(to: piece.region.offsets), into: &span)
            try RegionCopy.copy(
                scalarType, from: bytes.bytes, of: part.shape, region: Region(whole: part.shape),
                into: &destination, of: region.shape, region: part.relative(to: region.offsets))
        }
    }
}
