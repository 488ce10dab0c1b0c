import CairnBase
import CairnTensor

/// A tensor without the padding behind one dimension.
struct StrippedMapping: RegionMapping {
    let shape: Shape

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        [MappedPiece(input: 0, source: region, target: region)]
    }
}

/// A tensor with zeros behind one dimension.
struct PaddedMapping: RegionMapping {
    let shape: Shape
    let original: Shape

    var hasPadding: Bool { true }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        guard let inner = region.intersection(Region(whole: original)) else { return [] }
        return [MappedPiece(input: 0, source: inner, target: inner)]
    }
}
