package import CairnBase
package import CairnTensor

/// A tensor whose boxes lie in other tensors: split, fused, stacked, padded, sharded, reshaped.
package struct MappedView: TensorView {
    private let inputs: [any TensorView]
    private let mapping: any RegionMapping
    package let scalarType: ScalarType
    package var shape: Shape { mapping.shape }
    package var hasChecksums: Bool { !inputs.isEmpty && inputs.allSatisfy(\.hasChecksums) }

    /// - Parameter scalarType: The type of the elements, which all inputs have.
    package init(_ inputs: [any TensorView], _ mapping: any RegionMapping, _ scalarType: ScalarType) {
        self.inputs = inputs
        self.mapping = mapping
        self.scalarType = scalarType
    }

    /// A view of one tensor.
    package init(_ input: any TensorView, _ mapping: any RegionMapping) {
        self.init([input], mapping, input.scalarType)
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        if mapping.hasPadding {
            destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
        }
        var produced = 0
        for piece in try mapping.pieces(of: region) {
            try inputs[piece.input].read(piece.source, as: piece.target, of: region, into: &destination)
            produced += piece.target.elementCount
        }
        guard produced == region.elementCount || (mapping.hasPadding && produced < region.elementCount) else {
            throw CairnError(
                .mismatch, "a region is not produced exactly once",
                .init(expected: "\(region.elementCount) elements", found: "\(produced)"))
        }
    }
}
