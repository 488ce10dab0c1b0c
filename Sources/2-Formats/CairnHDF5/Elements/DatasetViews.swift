import CHDF5
import CHDF5Calls
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

/// One member of the records of a table, as a tensor: a column of numbers.
struct RecordColumn: TensorView {
    /// The bytes of the records, which are the last dimension.
    let records: any TensorView
    /// Where the column is in a record.
    let bytes: Range<Int>
    let scalarType: ScalarType
    /// The extents of the table.
    let extents: [Int]
    /// The further dimensions that each element has.
    let inner: [Int]
    let shape: Shape
    var hasChecksums: Bool { records.hasChecksums }

    init(
        _ records: any TensorView, extents: [Int], offset: Int, scalarType: ScalarType, inner: [Int]
    ) throws(CairnError) {
        shape = try Shape(checking: extents + inner)
        let count = try Shape(checking: inner).elementCount
        guard let byteCount = scalarType.byteCount(elementCount: count) else {
            throw CairnError(.malformed, "the size of a record's member is out of range")
        }
        self.records = records
        self.extents = extents
        self.inner = inner
        self.scalarType = scalarType
        bytes = offset..<offset + byteCount
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let outer = try Region(
            offsets: Array(region.offsets.prefix(extents.count)) + [bytes.lowerBound],
            shape: Shape(checking: Array(region.shape.extents.prefix(extents.count)) + [bytes.count]))
        if region.shape.extents.dropFirst(extents.count).elementsEqual(inner) {
            return try records.read(outer, into: &destination)
        }
        // Elements that have dimensions inside are read whole.
        var whole = [UInt8](repeating: 0, count: outer.shape.elementCount)
        var span = whole.mutableSpan
        var raw = span.mutableBytes
        try records.read(outer, into: &raw)
        let held = try Shape(checking: Array(region.shape.extents.prefix(extents.count)) + inner)
        let part = try Region(
            offsets: [Int](repeating: 0, count: extents.count) + region.offsets.dropFirst(extents.count),
            shape: region.shape)
        try RegionCopy.copy(
            scalarType, from: whole.span.bytes, of: held, region: part, into: &destination, of: region.shape,
            region: Region(whole: region.shape))
    }

    /// The columns of numbers of a table, those of records in records by both names, and what is left out.
    static func columns(
        _ members: [StoredType.Member], of records: any TensorView, extents: [Int]
    ) throws(CairnError) -> (columns: [(name: String, content: any TensorView)], skippedEntries: [String]) {
        var columns: [(name: String, content: any TensorView)] = []
        var skippedEntries: [String] = []
        var names: Set<ExactString> = []
        var pending = members.map { (name: $0.name, offset: $0.offset, type: $0.type) }
        while !pending.isEmpty {
            let member = pending.removeFirst()
            guard !member.name.isEmpty, names.insert(ExactString(member.name)).inserted else {
                skippedEntries.append("a column has no name or that of another one, \(member.name.debugDescription)")
                continue
            }
            func add(_ scalarType: ScalarType, _ inner: [Int], _ wrap: (RecordColumn) -> any TensorView)
                throws(CairnError)
            {
                let column = try RecordColumn(
                    records, extents: extents, offset: member.offset, scalarType: scalarType, inner: inner)
                columns.append((member.name, wrap(column)))
            }
            switch HDF5Type(member.type) {
            case .numbers(let scalarType, let swapped, let inner):
                try add(scalarType, inner) { column in
                    guard let width = swapped else { return column }
                    return ByteSwappedView(column, width: width)
                }
            case .packed(let scalarType, let form):
                try add(.u8, [form.byteCount]) { PackedIntegers($0, form, scalarType) }
            case .value:
                guard case .record(_, let inner) = member.type else {
                    skippedEntries.append("its column \(member.name) holds text or what a tensor cannot")
                    continue
                }
                pending =
                    inner.map { ("\(member.name)/\($0.name)", member.offset + $0.offset, $0.type) } + pending
            case .opaque(let size): try add(.u8, [size]) { $0 }
            case .unknown(let reason): skippedEntries.append("its column \(member.name) holds \(reason)")
            }
        }
        return (columns, skippedEntries)
    }
}

/// Integers that do not fill their bytes, each widened to a type of a tensor.
struct PackedIntegers: TensorView {
    /// The stored bytes, those of an integer as the last dimension.
    private let content: any TensorView
    private let form: StoredType.IntegerForm
    let scalarType: ScalarType
    let shape: Shape
    var hasChecksums: Bool { content.hasChecksums }

    init(_ content: any TensorView, _ form: StoredType.IntegerForm, _ scalarType: ScalarType) {
        self.content = content
        self.form = form
        self.scalarType = scalarType
        shape = Shape(Array(content.shape.extents.dropLast()))
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let width = scalarType.byteWidth ?? 1
        let stored = try Region(
            offsets: region.offsets + [0], shape: Shape(checking: region.shape.extents + [form.byteCount]))
        var bytes = [UInt8](repeating: 0, count: stored.shape.elementCount)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try content.read(stored, into: &raw)
        destination.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { source in
                for element in 0..<region.elementCount {
                    let start = element * form.byteCount
                    let bits = form.bits(UnsafeRawBufferPointer(rebasing: source[start..<start + form.byteCount]))
                    for index in 0..<width {
                        target[element * width + index] = UInt8(truncatingIfNeeded: bits >> UInt64(8 * index))
                    }
                }
            }
        }
    }
}
