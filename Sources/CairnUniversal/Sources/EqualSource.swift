import CairnBase
import CairnTensor

/// A tensor of which there are copies that must have the same bits.
struct EqualSource: TensorSource {
    let base: any TensorSource
    let copies: [(name: String, source: any TensorSource)]

    var scalarType: ScalarType { base.scalarType }
    var shape: Shape { base.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        for copy in copies {
            let found = try copy.source.bytes(of: region)
            let isEqual = destination.withUnsafeMutableBytes { expected in
                found.withUnsafeBytes { $0.elementsEqual(UnsafeRawBufferPointer(expected)) }
            }
            guard isEqual else {
                throw CairnError(
                    .mismatch, "a tied tensor differs from the one that it is tied to",
                    .init(tensor: copy.name, found: "other bits in \(region)"))
            }
        }
    }
}
