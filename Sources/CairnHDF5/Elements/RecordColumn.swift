import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor

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
