import CairnBase
import CairnTensor

/// A tensor whose numbers are stored with their most significant byte first.
struct SwappedTensor: TensorContent {
    let content: any TensorContent
    var scalarType: ScalarType { content.scalarType }
    var shape: Shape { content.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try content.read(region, into: &destination)
        let width = (scalarType.byteWidth ?? 1) / (scalarType.isComplex ? 2 : 1)
        guard width > 1 else { return }
        destination.withUnsafeMutableBytes { bytes in
            for begin in stride(from: 0, to: bytes.count, by: width) {
                for index in 0..<width / 2 { bytes.swapAt(begin + index, begin + width - 1 - index) }
            }
        }
    }
}
