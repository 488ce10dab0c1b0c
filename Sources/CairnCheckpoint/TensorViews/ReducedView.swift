package import CairnBase
package import CairnLayout
package import CairnTensor

/// The sum or mean of the partial values of a partial tensor, added in their order in double precision.
package struct ReducedView: TensorView {
    private let partials: [any TensorView]
    private let reduction: Reduction
    package let scalarType: ScalarType
    package let shape: Shape
    /// Where sums that are too large for the type are noted.
    private let recorder: LossRecorder

    package init(_ partials: [any TensorView], _ reduction: Reduction, recorder: LossRecorder) throws(CairnError) {
        guard let first = partials.first else {
            throw CairnError(.invalidArgument, "a partial tensor has no partial values")
        }
        guard first.scalarType.isFloatingPoint, ScalarConversion.isSupported(from: first.scalarType, to: .f64) else {
            throw CairnError(
                .unsupported, "only floating-point partial values are summed or averaged", .init(found: "\(first.scalarType)"))
        }
        self.partials = partials
        self.reduction = reduction
        self.recorder = recorder
        scalarType = first.scalarType
        shape = first.shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        var sums = [Double](repeating: 0, count: region.elementCount)
        for partial in partials {
            let block = try partial.bytes(of: region)
            var doubles = [Double](repeating: 0, count: region.elementCount)
            var span = doubles.mutableSpan
            var raw = span.mutableBytes
            try ScalarConversion.convert(block.span.bytes, from: scalarType, into: &raw, to: .f64)
            for index in sums.indices { sums[index] += doubles[index] }
        }
        if reduction == .mean {
            let count = Double(partials.count)
            for index in sums.indices { sums[index] /= count }
        }
        let loss = try ScalarConversion.convertNotingLoss(
            sums.span.bytes, from: .f64, into: &destination, to: scalarType)
        recorder.add(loss, in: region, shape: shape, from: .f64, to: scalarType)
    }
}
