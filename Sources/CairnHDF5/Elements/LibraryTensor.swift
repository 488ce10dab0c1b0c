import CHDF5
import CHDF5Calls
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor

/// A tensor that HDF5 itself reads: small ones inside of headers, and what went through filters that are not undone
/// here.
struct LibraryTensor: TensorView {
    let file: HDF5File
    let path: String
    let scalarType: ScalarType
    /// The tensor's shape, dimensions inside of elements included.
    let shape: Shape
    /// The dimensions that HDF5 knows.
    let outerCount: Int

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        // Elements that have dimensions inside are read whole.
        let inner = Region(whole: try Shape(checking: Array(shape.extents.dropFirst(outerCount))))
        let outer = try Region(
            offsets: Array(region.offsets.prefix(outerCount)),
            shape: Shape(checking: Array(region.shape.extents.prefix(outerCount))))
        if region.shape.extents.dropFirst(outerCount).elementsEqual(inner.shape.extents) {
            return try readElements(outer, into: &destination)
        }
        let whole = try Shape(checking: outer.shape.extents + inner.shape.extents)
        guard let byteCount = scalarType.byteCount(elementCount: whole.elementCount) else {
            throw CairnError(.unsupported, "the elements of the region are too large")
        }
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try readElements(outer, into: &raw)
        let part = try Region(
            offsets: [Int](repeating: 0, count: outerCount) + region.offsets.dropFirst(outerCount), shape: region.shape)
        try RegionCopy.copy(
            scalarType, from: bytes.span.bytes, of: whole, region: part, into: &destination, of: region.shape,
            region: Region(whole: region.shape))
    }

    private func readElements(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try destination.withUnsafeMutableBytes { buffer throws(CairnError) in
            do throws(CairnError) {
                try HDF5Library.run { () throws(CairnError) in
                    let dataset = try HDF5Handle(
                        H5Dopen2(file.id, path, defaultProperties), closing: H5Dclose, "open a dataset")
                    // As they are stored: what HDF5 would convert it would also have to believe.
                    let type = try HDF5Handle(
                        H5Dget_type(dataset.id), closing: H5Tclose, "find the type of a dataset")
                    guard outerCount > 0 else {
                        let status = file.reading(into: buffer) {
                            H5Dread(dataset.id, type.id, allElements, allElements, defaultProperties, $0)
                        }
                        return try HDF5Library.check(status, "read a dataset")
                    }
                    let space = try HDF5Handle(
                        H5Dget_space(dataset.id), closing: H5Sclose, "find the shape of a dataset")
                    let offsets = region.offsets.map { hsize_t($0) }
                    let extents = region.shape.extents.map { hsize_t($0) }
                    try HDF5Library.check(
                        H5Sselect_hyperslab(space.id, H5S_SELECT_SET, offsets, nil, extents, nil), "select a region")
                    let target = try HDF5Handle(
                        H5Screate_simple(Int32(outerCount), extents, nil), closing: H5Sclose, "make a shape")
                    let status = file.reading(into: buffer) {
                        H5Dread(dataset.id, type.id, target.id, space.id, defaultProperties, $0)
                    }
                    try HDF5Library.check(status, "read a dataset")
                }
            } catch {
                throw file.blame(error)
            }
        }
    }
}
