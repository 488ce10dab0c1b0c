import CairnBase
import CairnCheckpoint
import CairnTensor

/// How a tensor is sharded over several files: along its first dimension, as fully sharded training does it, so that
/// each part is a run of the tensor's bytes.
struct FileSharding {
    /// A part of a tensor and the file that it goes to.
    struct Part {
        var region: Region
        var file: Int
        var byteCount: Int
    }

    /// The parts in the order of the tensor's bytes; those without elements are left out.
    let parts: [Part]

    /// - Parameter fileCount: How many files there are, at least one. A tensor that cannot be sharded goes to one of them.
    init(_ tensor: TensorDescription, fileCount: Int, whole: Int) throws(CairnError) {
        guard tensor.shape.elementCount > 0 else {
            parts = []
            return
        }
        guard let rows = tensor.shape.extents.first, fileCount > 1 else {
            parts = [Part(region: Region(whole: tensor.shape), file: whole, byteCount: tensor.byteCount)]
            return
        }
        // As many rows as ranks of torch get; of packed elements as many as fill whole bytes.
        var height = (rows + fileCount - 1) / fileCount
        let rowBits = tensor.shape.elementCount / rows * tensor.scalarType.bitWidth
        if rowBits % 8 != 0 { height = (height + 7) / 8 * 8 }
        var parts: [Part] = []
        for begin in stride(from: 0, to: rows, by: height) {
            let extents = [min(height, rows - begin)] + tensor.shape.extents.dropFirst()
            let offsets = [begin] + [Int](repeating: 0, count: extents.count - 1)
            let region = try Region(offsets: offsets, shape: Shape(checking: extents))
            parts.append(
                Part(
                    region: region, file: parts.count,
                    byteCount: tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0))
        }
        self.parts = parts
    }
}
