import CairnBase
import CairnTensor

/// A tensor whose boxes lie in other tensors: split, fused, stacked, padded, sharded.
struct MappedSource: TensorSource {
    let inputs: [any TensorSource]
    let mapping: any RegionMapping
    let scalarType: ScalarType

    var shape: Shape { mapping.shape }

    init(_ inputs: [any TensorSource], _ mapping: any RegionMapping, _ scalarType: ScalarType) {
        self.inputs = inputs
        self.mapping = mapping
        self.scalarType = scalarType
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        if mapping.hasPadding {
            destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
        }
        var produced = 0
        for piece in try mapping.pieces(of: region) {
            try inputs[piece.input].read(piece.source, as: piece.target, of: region, scalarType, into: &destination)
            produced += piece.target.elementCount
        }
        guard produced == region.elementCount || (mapping.hasPadding && produced < region.elementCount) else {
            throw CairnError(
                .mismatch, "a region is not produced exactly once",
                .init(expected: "\(region.elementCount) elements", found: "\(produced)"))
        }
    }
}

extension TensorSource {
    /// Reads a box of this tensor into its place in a region of another: straight if that is one run of memory.
    func read(
        _ source: Region, as target: Region, of region: Region, _ scalarType: ScalarType,
        into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard target.elementCount > 0 else { return }
        let local = target.relative(to: region.offsets)
        var runs = RegionRuns(of: local, in: region.shape)
        if runs.count == 1, let first = runs.next(), let begin = scalarType.byteCount(elementCount: first) {
            let count = try byteCount(of: source)
            var part = destination._mutatingExtracting(begin..<begin + count)
            return try read(source, into: &part)
        }
        let block = try bytes(of: source)
        try RegionCopy.copy(
            scalarType, from: block.span.bytes, of: target.shape, region: Region(whole: target.shape),
            into: &destination, of: region.shape, region: local)
    }
}
