package import CairnBase
package import CairnTensor

/// Where conversions note what they lose, and for which tensor.
package struct LossRecorder: Sendable {
    private let ledger: LossLedger
    private let tensor: String

    package init(ledger: LossLedger, tensor: String) {
        self.ledger = ledger
        self.tensor = tensor
    }

    package func add(_ loss: ConversionLoss, in region: Region, shape: Shape, from source: ScalarType, to target: ScalarType) {
        ledger.add(loss, in: region, of: tensor, shape: shape, from: source, to: target)
    }
}

/// A tensor in another element type, converted as it is read, a block at a time.
package struct CastView: TensorView {
    /// How much of a region is converted at once, in bytes of the original type.
    private static let blockByteCount = 1 << 20

    private let base: any TensorView
    package let scalarType: ScalarType
    private let overflow: OverflowBehavior
    private let recorder: LossRecorder

    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameters:
    ///   - overflow: What becomes of numbers that the new type cannot hold.
    ///   - recorder: Where what is lost is noted.
    package init(
        _ base: any TensorView, to scalarType: ScalarType, overflow: OverflowBehavior = .ieee, recorder: LossRecorder
    ) {
        self.base = base
        self.scalarType = scalarType
        self.overflow = overflow
        self.recorder = recorder
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        var block: [UInt8] = []
        var written = 0
        for part in base.slabs(of: region, byteLimit: Self.blockByteCount) {
            let sourceByteCount = try base.byteCount(of: part)
            let byteCount = try byteCount(of: part)
            if block.count < sourceByteCount { block = [UInt8](repeating: 0, count: sourceByteCount) }
            var span = block.mutableSpan
            var bytes = span.mutableBytes
            var input = bytes._mutatingExtracting(0..<sourceByteCount)
            try base.read(part, into: &input)
            var output = destination._mutatingExtracting(written..<written + byteCount)
            let loss = try ScalarConversion.convertNotingLoss(
                block.span.bytes.extracting(0..<sourceByteCount), from: base.scalarType, into: &output, to: scalarType,
                overflow: overflow)
            recorder.add(loss, in: part, shape: shape, from: base.scalarType, to: scalarType)
            written += byteCount
        }
    }
}
