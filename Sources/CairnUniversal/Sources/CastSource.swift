import CairnBase
import CairnCheckpoint
import CairnTensor

/// Where conversions note what they lose, and for which tensor.
struct LossRecorder: Sendable {
    let ledger: LossLedger
    let tensor: String

    func add(_ loss: ConversionLoss, in region: Region, shape: Shape, from source: ScalarType, to target: ScalarType) {
        ledger.add(loss, in: region, of: tensor, shape: shape, from: source, to: target)
    }
}

/// A tensor in another element type, converted as it is read, a block at a time.
struct CastSource: TensorSource {
    private static let blockByteCount = 1 << 20

    let base: any TensorSource
    let scalarType: ScalarType
    let recorder: LossRecorder

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
            let loss = try ScalarConversion.convertNotingLoss(
                block.span.bytes, from: base.scalarType, into: &output, to: scalarType)
            recorder.add(loss, in: part, shape: shape, from: base.scalarType, to: scalarType)
            written += count
        }
    }
}
