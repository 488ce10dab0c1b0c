import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor in another element type, converted as it is read, a block at a time.
struct CastSource: TensorSource {
    private static let blockByteCount = 1 << 20

    let base: any TensorSource
    let scalarType: ScalarType

    var shape: Shape { base.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        let whole = TensorDescription(name: "", scalarType: base.scalarType, shape: region.shape)
        var written = 0
        for slab in SlabSequence(of: whole, byteLimit: Self.blockByteCount) {
            let part = try Region(offsets: zip(region.offsets, slab.offsets).map { $0 + $1 }, shape: slab.shape)
            let block = try base.bytes(of: part)
            let count = try byteCount(of: part)
            var output = destination._mutatingExtracting(written..<written + count)
            try ScalarConversion.convert(
                block.span.bytes, from: base.scalarType, into: &output, to: scalarType)
            written += count
        }
    }
}
