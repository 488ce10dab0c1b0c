import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor

/// What never was written: the same element everywhere.
struct FilledTensor: TensorView {
    let scalarType: ScalarType
    /// The tensor's shape, dimensions inside of elements included.
    let shape: Shape
    /// The dimensions that HDF5 knows.
    let outerCount: Int
    let fill: ElementFill

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let pattern = try fill.pattern(scalarType, shape, outerCount, region)
        destination.withUnsafeMutableBytes { target in
            pattern.withUnsafeBytes { ElementFill.fill(target, with: $0) }
        }
    }
}

/// An element that was never written, as it would be stored.
struct ElementFill: Sendable {
    /// All bytes of the element, dimensions inside included; none for zeros.
    let bytes: [UInt8]

    /// What repeats in a region of a tensor: a region may have a part of the dimensions inside of elements.
    func pattern(
        _ scalarType: ScalarType, _ shape: Shape, _ outerCount: Int, _ region: Region
    ) throws(CairnError) -> [UInt8] {
        let whole = try Shape(checking: Array(shape.extents.dropFirst(outerCount)))
        let part = try Region(
            offsets: Array(region.offsets.dropFirst(outerCount)),
            shape: Shape(checking: Array(region.shape.extents.dropFirst(outerCount))))
        if bytes.isEmpty || part.shape == whole { return bytes }
        var pattern = [UInt8](repeating: 0, count: scalarType.byteCount(elementCount: part.elementCount) ?? 0)
        var span = pattern.mutableSpan
        var raw = span.mutableBytes
        try RegionCopy.copy(
            scalarType, from: bytes.span.bytes, of: whole, region: part, into: &raw, of: part.shape,
            region: Region(whole: part.shape))
        return pattern
    }

    /// Repeats a pattern, by copying what is there already; zeros when it is empty.
    static func fill(_ target: UnsafeMutableRawBufferPointer, with pattern: UnsafeRawBufferPointer) {
        var done = min(pattern.count, target.count)
        guard done > 0 else {
            target.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: pattern[..<done]))
        while done < target.count {
            let count = min(done, target.count - done)
            UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: target[..<count]))
            done += count
        }
    }
}
