import CairnBase
import CairnTensor

/// A tensor of zeros: what all but one rank hold of a sum that is handed out again.
struct ZeroSource: TensorSource {
    let scalarType: ScalarType
    let shape: Shape

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
    }
}
