import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// A tensor whose elements lie in a file at any strides: a transposed matrix, a column, a repeated row.
struct StridedTensor: TensorView {
    let file: any StorageFile
    let scalarType: ScalarType
    /// Bytes of an element.
    let width: Int
    let shape: Shape
    /// For each dimension the distance between neighbours, in elements.
    let strides: [Int]
    /// The first element.
    let offset: Int

    /// The most bytes that are read at once.
    private static let greatestSpan = 16 << 20
    /// How many bytes may be read for one that is wanted, beyond a page.
    private static let greatestWaste = 16

    /// Reads what lies between the first and the last element and picks; a region for which that is too much is divided
    /// along the dimension that reaches furthest.
    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let outer = region.shape.strides
        var work = [region]
        var buffer: [UInt8] = []
        while let part = work.popLast() {
            let reach = zip(part.shape.extents, strides).map { ($0 - 1) * $1 }
            let span = (reach.reduce(0, +) + 1) * width
            let isTooMuch =
                span > Self.greatestSpan
                || (span > 4096 && span / Self.greatestWaste > part.elementCount * width)
            if isTooMuch, let longest = reach.indices.max(by: { reach[$0] < reach[$1] }), part.shape[longest] > 1 {
                work += try Self.halves(of: part, along: longest)
                continue
            }
            let first = offset + zip(part.offsets, strides).reduce(0) { $0 + $1.0 * $1.1 }
            if buffer.count < span { buffer = [UInt8](repeating: 0, count: span) }
            var bufferSpan = buffer.mutableSpan
            var bytes = bufferSpan.mutableBytes
            var read = bytes.part(0..<span)
            try file.read(at: first * width, into: &read)
            let begin = zip(zip(part.offsets, region.offsets), outer).reduce(0) { $0 + ($1.0.0 - $1.0.1) * $1.1 }
            pick(part.shape.extents, from: buffer, to: &destination, at: begin, outer)
        }
    }

    private static func halves(of region: Region, along dimension: Int) throws(CairnError) -> [Region] {
        let half = region.shape[dimension] / 2
        var halves: [Region] = []
        for (begin, extent) in [(half, region.shape[dimension] - half), (0, half)] {
            var offsets = region.offsets
            var extents = region.shape.extents
            offsets[dimension] += begin
            extents[dimension] = extent
            halves.append(try Region(offsets: offsets, shape: Shape(checking: extents)))
        }
        return halves
    }

    /// Copies the elements of a box from their strides to those of the destination.
    private func pick(
        _ extents: [Int], from source: [UInt8], to destination: inout MutableRawSpan, at begin: Int, _ outer: [Int]
    ) {
        source.withUnsafeBytes { source in
            destination.withUnsafeMutableBytes { target in
                guard let from = source.baseAddress, let into = target.baseAddress else { return }
                let inner = extents.count - 1
                let (count, step, outerStep) = inner < 0 ? (1, 0, 0) : (extents[inner], strides[inner], outer[inner])
                var index = [Int](repeating: 0, count: max(0, inner))
                var (origin, position) = (0, begin)
                while true {
                    for element in 0..<count {
                        (into + (position + element * outerStep) * width)
                            .copyMemory(from: from + (origin + element * step) * width, byteCount: width)
                    }
                    var dimension = inner - 1
                    while dimension >= 0 {
                        index[dimension] += 1
                        origin += strides[dimension]
                        position += outer[dimension]
                        if index[dimension] < extents[dimension] { break }
                        origin -= strides[dimension] * extents[dimension]
                        position -= outer[dimension] * extents[dimension]
                        index[dimension] = 0
                        dimension -= 1
                    }
                    if dimension < 0 { return }
                }
            }
        }
    }
}
