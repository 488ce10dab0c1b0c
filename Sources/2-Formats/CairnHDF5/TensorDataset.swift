import CHDF5
import CHDF5Calls
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor

/// A dataset of numbers.
struct TensorDataset {
    private enum DataLocation {
        /// Contiguous in the file, from this byte on.
        case file(Int)
        case chunks(Shape, ChunkFilters, leavesEdgesPlain: Bool, fill: ElementFill, index: ChunkIndex?)
        /// Never written.
        case nowhere(ElementFill)
        /// Read by HDF5.
        case library
    }

    let file: HDF5File
    let path: String
    /// The dimensions that HDF5 knows.
    let extents: [Int]
    private(set) var element: HDF5Type
    private let type: StoredType
    /// Attributes that only say what the type is.
    private(set) var typeAttributes: [String] = []
    /// What a person should know of how it was understood.
    private(set) var note: String?
    private var packedShape: [Int]?
    private var location = DataLocation.library

    /// The most bytes of a tensor that has fewer in the file: never written, or compressed.
    private static let greatestExpansion = 1 << 30
    private static let greatestChunk = 1 << 30

    init(file: HDF5File, path: String, extents: [Int], element: HDF5Type, type: StoredType) {
        self.file = file
        self.path = path
        self.extents = extents
        self.element = element
        self.type = type
    }

    /// The dimensions that elements have as they are read: those of numbers, otherwise the bytes of one.
    private var inner: [Int] {
        if case .numbers(_, _, let inner) = element { return inner }
        return [type.byteCount]
    }

    private var scalarType: ScalarType {
        switch element {
        case .numbers(let scalarType, _, _): scalarType
        default: .u8
        }
    }

    /// Finds out what opaque bytes are: an attribute says it, or only one type is written so.
    mutating func understandOpaque(_ size: Int, attributes: [StoredAttribute], isOfKeras: Bool) throws(CairnError) {
        func value(_ name: String) throws(CairnError) -> Value? {
            guard let attribute = attributes.first(where: { $0.name == name }) else { return nil }
            return try? HDF5Value.of(attribute, in: file).get()
        }
        if case .string(let name)? = try value("dtype"), let scalarType = OpaqueTypeName.scalarType(name) {
            if !scalarType.isPacked, scalarType.byteWidth == size {
                element = .numbers(scalarType, swapped: nil, inner: [])
                typeAttributes = ["dtype"]
                return
            }
            if scalarType.isPacked, size == 1, extents.count == 1, case .list(let shape)? = try value("shape") {
                let logical = shape.compactMap { value -> Int? in
                    if case .integer(let extent) = value { return Int(extent) }
                    return nil
                }
                let shape = try Shape(checking: logical)
                if scalarType.byteCount(elementCount: shape.elementCount) == extents[0] {
                    element = .numbers(scalarType, swapped: nil, inner: [])
                    packedShape = logical
                    typeAttributes = ["dtype", "shape"]
                    return
                }
            }
        }
        if isOfKeras, size == 2 {
            // Keras has two types of two bytes, and float16 is a type of HDF5.
            element = .numbers(.bf16, swapped: nil, inner: [])
            return
        }
        element = .numbers(.u8, swapped: nil, inner: [size])
        note = "has opaque elements of \(size) bytes and nothing says what they are: they are delivered as bytes"
    }

    /// Finds where the elements are.
    ///
    /// - Parameter layout: What the header says of that.
    /// - Returns: Why they cannot be read, `nil` when they can.
    mutating func locate(_ id: hid_t, _ properties: hid_t, _ layout: [UInt8]) throws(CairnError) -> String? {
        let type = try HDF5Handle(H5Dget_type(id), closing: H5Tclose, "find the type of a dataset")
        guard H5Tget_size(type.id) == self.type.byteCount else {
            throw CairnError(
                .malformed, "the size of a dataset's elements is not that of their type",
                .init(expected: "\(self.type.byteCount) bytes", found: "\(H5Tget_size(type.id))"))
        }
        // HDF5 would follow what it knows: parts of headers that are shared it sees as they are.
        guard H5Tget_class(type.id) == H5T_OPAQUE || !self.type.hasParts else {
            return "its type is shared by several headers and has parts elsewhere"
        }
        let shape = try Shape(checking: extents + inner)
        guard let byteCount = packedShape != nil ? extents[0] : scalarType.byteCount(elementCount: shape.elementCount)
        else {
            throw CairnError(.malformed, "the size of a dataset is out of range", .init(found: "\(scalarType)\(shape)"))
        }
        let most = max(
            Self.greatestExpansion, file.bytes.byteCount.multiplied(checked: Inflation.greatestRatio) ?? .max)
        guard byteCount <= most else {
            return "it has \(byteCount) bytes, more than its file can hold and more than 1 GiB: it was never written whole"
        }
        switch H5Pget_layout(properties) {
        case H5D_COMPACT:
            return byteCount <= 1 << 16 ? nil : "it is said to be inside of a header, where it has no room"
        case H5D_CONTIGUOUS:
            let offset = H5Dget_offset(id)
            // Nothing was ever written, or there is nothing to write.
            guard offset != cairn_h5_undefined_address(), H5Dget_storage_size(id) > 0, byteCount > 0 else {
                location = .nowhere(try fill(properties, type.id))
                return byteCount <= Self.greatestExpansion ? nil : "it is larger than 1 GiB and was never written"
            }
            guard let start = Int(exactly: offset), let end = start.adding(checked: byteCount),
                end <= file.bytes.byteCount
            else {
                throw CairnError(
                    .incomplete, "a dataset reaches beyond the end of the file",
                    .init(
                        offset: Int(clamping: offset), expected: "\(byteCount) bytes from there",
                        found: "a file of \(file.bytes.byteCount) bytes"))
            }
            location = .file(start)
            return nil
        case H5D_CHUNKED:
            let isNewer = layout.count >= 6 && layout[0] == 5 && layout[1] == 2
            return try locateChunks(id, properties, type.id, isNewer ? layout : nil)
        default: throw HDF5Library.failure("find how a dataset is stored")
        }
    }

    /// What is delivered in the place of elements that were never written.
    private func fill(_ properties: hid_t, _ type: hid_t) throws(CairnError) -> ElementFill {
        var defined = H5D_FILL_VALUE_UNDEFINED
        guard H5Pfill_value_defined(properties, &defined) >= 0, defined == H5D_FILL_VALUE_USER_DEFINED else {
            return ElementFill(bytes: [])
        }
        var fill = [UInt8](repeating: 0, count: self.type.byteCount)
        try HDF5Library.check(H5Pget_fill_value(properties, type, &fill), "find what never was written")
        return ElementFill(bytes: fill)
    }

    private mutating func locateChunks(
        _ id: hid_t, _ properties: hid_t, _ type: hid_t, _ newerLayout: [UInt8]?
    ) throws(CairnError) -> String? {
        var extents = [hsize_t](repeating: 0, count: 32)
        let count = H5Pget_chunk(properties, 32, &extents)
        guard count == Int32(self.extents.count), count > 0 else {
            throw HDF5Library.failure("find the shape of chunks")
        }
        let chunk = try Shape(checking: extents.prefix(Int(count)).map { Int(clamping: $0) } + inner)
        let elementCount = try Shape(checking: Array(chunk.extents.prefix(Int(count)))).elementCount
        let size = H5Tget_size(type)
        guard chunk.elementCount > 0, let byteCount = elementCount.multiplied(checked: size),
            byteCount <= Self.greatestChunk
        else {
            return "its chunks are larger than 1 GiB, of \(chunk)"
        }
        let filters = try Self.filters(properties)
        guard filters.areKnown else {
            guard newerLayout.map(ChunkIndex.isFoundByOldLibrary) ?? true else {
                return "HDF5 2.0 wrote it, with filters that only HDF5 itself undoes"
            }
            return try checkLibraryFilters(filters, elementCount, type)
        }
        var index: ChunkIndex?
        if let newerLayout {
            let space = try HDF5Handle(H5Dget_space(id), closing: H5Sclose, "find the shape of a dataset")
            var greatest = [hsize_t](repeating: 0, count: 32)
            guard H5Sget_simple_extent_dims(space.id, nil, &greatest) == count else {
                throw HDF5Library.failure("find the greatest extents")
            }
            index = try ChunkIndex(
                newerLayout, file.headers.parts, chunk: Array(chunk.extents.prefix(Int(count))),
                greatest: greatest.prefix(Int(count)).map { Int(exactly: $0) })
            guard index != nil || ChunkIndex.isFoundByOldLibrary(newerLayout) else {
                return "HDF5 2.0 wrote it, with an index of chunks that is not known"
            }
        }
        var options: UInt32 = 0
        try HDF5Library.check(H5Pget_chunk_opts(properties, &options), "find how chunks are stored")
        location = .chunks(
            chunk, filters, leavesEdgesPlain: options & 2 != 0, fill: try fill(properties, type), index: index)
        return nil
    }

    /// Makes sure that filters that HDF5 undoes say of themselves what fits the dataset: it believes them.
    private func checkLibraryFilters(
        _ filters: ChunkFilters, _ elementCount: Int, _ type: hid_t
    ) throws(CairnError) -> String? {
        let size = H5Tget_size(type)
        guard size.multiplied(checked: elementCount).map({ $0 <= 1 << 28 }) == true else {
            return "its chunks are larger than 256 MiB and went through filters that need HDF5's own code"
        }
        for filter in filters.filters {
            let parameters = filter.parameters.map { Int($0) }
            switch filter.id {
            case ChunkFilters.deflate, ChunkFilters.shuffle, ChunkFilters.fletcher32: break
            case ChunkFilters.scaleOffset:
                // Kind, factor, elements of a chunk, class, size, sign, order, fill.
                // Old versions left the sign of floating-point numbers, which have none of it, as it happened to be.
                guard parameters.count == 20, parameters[2] == elementCount, parameters[4] == size, parameters[0] <= 2,
                    parameters[3] <= 1, parameters[5] <= 1 || parameters[3] == 1, parameters[6] <= 1
                else { return "the parameters of its scale-offset filter do not fit it" }
            case ChunkFilters.nbit:
                // How many, whether to do nothing, elements of a chunk, class, size, order, precision, offset.
                guard parameters.count == 8, parameters[0] == 8, parameters[2] == elementCount, parameters[3] == 1,
                    parameters[4] == size, parameters[5] <= 1, parameters[6] > 0,
                    parameters[6] + parameters[7] <= size * 8
                else { return "the parameters of its N-bit filter do not fit it" }
            case ChunkFilters.szip where H5Zfilter_avail(filter.id) > 0:
                guard parameters.count == 4, parameters[1] > 0, parameters[1] <= 32, parameters[1] % 2 == 0,
                    parameters[2] > 0, parameters[2] <= 64, parameters[3] > 0
                else { return "the parameters of its szip filter are out of range" }
            default: return ChunkFilters.unknown(filter.id)
            }
        }
        return nil
    }

    /// The filters of a dataset in the order of writing.
    static func filters(_ properties: hid_t) throws(CairnError) -> ChunkFilters {
        var filters: [ChunkFilters.Filter] = []
        let count = H5Pget_nfilters(properties)
        guard count >= 0 else { throw HDF5Library.failure("find the filters of a dataset") }
        for index in 0..<UInt32(count) {
            var flags: UInt32 = 0
            var configuration: UInt32 = 0
            var parameterCount = 64
            var parameters = [UInt32](repeating: 0, count: parameterCount)
            let id = H5Pget_filter2(properties, index, &flags, &parameterCount, &parameters, 0, nil, &configuration)
            guard id >= 0 else { throw HDF5Library.failure("find a filter of a dataset") }
            filters.append(.init(id: id, parameters: Array(parameters.prefix(min(64, parameterCount)))))
        }
        return ChunkFilters(filters: filters)
    }

    /// The elements.
    func content(_ cache: ChunkCache) throws(CairnError) -> any TensorView {
        let shape = try Shape(checking: packedShape ?? extents + inner)
        let content: any TensorView
        switch location {
        case .file(let offset):
            content = FileTensor(file: file.bytes, byteOffset: offset, scalarType: scalarType, shape: shape)
        case .chunks(let chunk, let filters, let leavesEdgesPlain, let fill, let index):
            guard packedShape == nil else {
                throw CairnError(.unsupported, "packed elements are in chunks")
            }
            content = ChunkedTensor(
                file: file, path: path, scalarType: scalarType, shape: shape, chunk: chunk,
                outerCount: extents.count, filters: filters, leavesEdgesPlain: leavesEdgesPlain, fill: fill,
                cache: cache, index: index)
        case .nowhere(let fill):
            guard packedShape == nil || extents == [0] else {
                throw CairnError(.unsupported, "packed elements were never written")
            }
            content = FilledTensor(scalarType: scalarType, shape: shape, outerCount: extents.count, fill: fill)
        case .library:
            guard packedShape == nil else {
                throw CairnError(.unsupported, "packed elements are not contiguous")
            }
            content = LibraryTensor(
                file: file, path: path, scalarType: scalarType, shape: shape, outerCount: extents.count)
        }
        switch element {
        case .numbers(_, let width?, _): return ByteSwappedView(content, width: width)
        case .packed(let scalarType, let form): return PackedIntegers(content, form, scalarType)
        default: return content
        }
    }
}
