import CHDF5
import CairnBase
import CairnTensor

/// Attributes and small datasets as values.
enum HDF5Value {
    /// The most bytes and elements of one value.
    private static let greatestByteCount = 16 << 20
    private static let greatestCount = 1 << 20
    private static let deepestType = 16

    /// What could not be made a value, in words.
    struct Refusal: Error {
        let reason: String
    }

    static func attribute(
        _ name: String, of object: hid_t, in file: HDF5File
    ) throws(CairnError) -> Result<Value, Refusal> {
        let id = try HDF5Handle(H5Aopen(object, name, defaultProperties), closing: H5Aclose, "open an attribute")
        let space = try HDF5Handle(H5Aget_space(id.id), closing: H5Sclose, "find the shape of an attribute")
        let type = try HDF5Handle(H5Aget_type(id.id), closing: H5Tclose, "find the type of an attribute")
        return try value(type.id, space.id, in: file) { H5Aread(id.id, $0, $1) }
    }

    static func dataset(_ id: hid_t, in file: HDF5File) throws(CairnError) -> Result<Value, Refusal> {
        let space = try HDF5Handle(H5Dget_space(id), closing: H5Sclose, "find the shape of a dataset")
        let type = try HDF5Handle(H5Dget_type(id), closing: H5Tclose, "find the type of a dataset")
        return try value(type.id, space.id, in: file) { type, memory in
            H5Dread(id, type, allElements, allElements, defaultProperties, memory)
        }
    }

    /// Elements are taken as they are stored: what HDF5 would convert it would also have to believe.
    private static func value(
        _ type: hid_t, _ space: hid_t, in file: HDF5File, read: (hid_t, UnsafeMutableRawPointer) -> herr_t
    ) throws(CairnError) -> Result<Value, Refusal> {
        guard let extents = try HDF5Space.extents(space) else { return .success(.null) }
        if let reason = refusal(type, depth: 0) { return .failure(Refusal(reason: reason)) }
        let size = H5Tget_size(type)
        let shape = try Shape(checking: extents)
        guard size > 0, let byteCount = shape.elementCount.multiplied(checked: size), byteCount <= greatestByteCount,
            shape.elementCount <= greatestCount
        else { return .failure(Refusal(reason: "\(shape.elementCount) elements, more than a value may have")) }
        guard byteCount > 0 else { return .success(.list([])) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 16)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        guard let base = buffer.baseAddress else { return .success(.list([])) }
        try HDF5Library.check(read(type, base), "read a value")
        var position = 0
        let value = try list(extents[...]) { () throws(CairnError) in
            defer { position += size }
            return try element(type, base + position, in: file, depth: 0)
        }
        return .success(value)
    }

    /// Lists in each other, one a dimension.
    private static func list(
        _ extents: ArraySlice<Int>, _ next: () throws(CairnError) -> Value
    ) throws(CairnError) -> Value {
        guard let extent = extents.first else { return try next() }
        var elements: [Value] = []
        for _ in 0..<extent { elements.append(try list(extents.dropFirst(), next)) }
        return .list(elements)
    }

    /// Why elements of a type cannot be values, `nil` when they can.
    private static func refusal(_ type: hid_t, depth: Int) -> String? {
        guard depth < deepestType else { return "a type nested too deeply" }
        switch H5Tget_class(type) {
        case H5T_INTEGER:
            let size = H5Tget_size(type)
            return [1, 2, 4, 8].contains(size) && H5Tget_precision(type) == size * 8
                ? nil : "\(size)-byte integers of an odd form"
        case H5T_FLOAT:
            if AnyLengthText.isType(type) { return nil }
            guard case .numbers? = try? HDF5Type(type) else {
                return "\(H5Tget_size(type))-byte floating-point numbers of another form than IEEE 754's"
            }
            return nil
        case H5T_STRING:
            return H5Tis_variable_str(type) > 0
                ? "text of any length, stored where only HDF5 itself could read it" : nil
        case H5T_ENUM, H5T_OPAQUE: return nil
        case H5T_REFERENCE: return "references"
        case H5T_VLEN: return "sequences of any length"
        case H5T_ARRAY:
            guard let base = try? HDF5Handle(H5Tget_super(type), closing: H5Tclose, "") else { return "a damaged type" }
            return refusal(base.id, depth: depth + 1)
        case H5T_COMPOUND:
            for index in 0..<UInt32(max(0, H5Tget_nmembers(type))) {
                guard let member = try? HDF5Handle(H5Tget_member_type(type, index), closing: H5Tclose, "") else {
                    return "a damaged type"
                }
                if let reason = refusal(member.id, depth: depth + 1) { return reason }
            }
            return nil
        default: return "elements of a class that is not known"
        }
    }

    private static func element(
        _ type: hid_t, _ memory: UnsafeMutableRawPointer, in file: HDF5File, depth: Int
    ) throws(CairnError) -> Value {
        let size = H5Tget_size(type)
        let bytes = UnsafeRawBufferPointer(start: memory, count: size)
        switch H5Tget_class(type) {
        case H5T_INTEGER: return integer(type, bytes)
        case H5T_FLOAT:
            return AnyLengthText.isType(type) ? try AnyLengthText.value(bytes, in: file) : try number(type, bytes)
        case H5T_STRING: return text(type, bytes)
        case H5T_OPAQUE: return .bytes(Array(bytes))
        case H5T_ENUM:
            if HDF5Type.isBoolean(type) { return .bool(bytes[0] != 0) }
            let base = try HDF5Handle(H5Tget_super(type), closing: H5Tclose, "find the type of an enumeration")
            return integer(base.id, bytes)
        case H5T_ARRAY: return try array(type, memory, in: file, depth: depth)
        case H5T_COMPOUND:
            var members: [String: Value] = [:]
            for index in 0..<UInt32(max(0, H5Tget_nmembers(type))) {
                let member = try HDF5Handle(H5Tget_member_type(type, index), closing: H5Tclose, "find a member's type")
                let offset = H5Tget_member_offset(type, index)
                guard offset >= 0, H5Tget_size(member.id) <= size - min(size, offset) else {
                    throw CairnError(.malformed, "a member of a record lies outside of it")
                }
                members[HDF5Type.memberName(type, index) ?? String(index)] = try element(
                    member.id, memory + offset, in: file, depth: depth + 1)
            }
            return .dictionary(members)
        default: throw CairnError(.unsupported, "an element of a class that is not known")
        }
    }

    private static func array(
        _ type: hid_t, _ memory: UnsafeMutableRawPointer, in file: HDF5File, depth: Int
    ) throws(CairnError) -> Value {
        let base = try HDF5Handle(H5Tget_super(type), closing: H5Tclose, "find the type of an array")
        var extents = [hsize_t](repeating: 0, count: 32)
        let count = H5Tget_array_dims2(type, &extents)
        guard count > 0, count <= 32 else { throw HDF5Library.failure("find the shape of an array") }
        let (step, total) = (H5Tget_size(base.id), H5Tget_size(type))
        var position = 0
        return try list(extents.prefix(Int(count)).map { Int(clamping: $0) }[...]) { () throws(CairnError) in
            guard position + step <= total else { throw HDF5Library.failure("read an array") }
            defer { position += step }
            return try element(base.id, memory + position, in: file, depth: depth + 1)
        }
    }

    /// The bits of a number, whatever its byte order.
    private static func bits(_ type: hid_t, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        let isBig = H5Tget_order(type) == H5T_ORDER_BE
        var bits: UInt64 = 0
        for index in 0..<min(8, bytes.count) {
            bits = bits << 8 | UInt64(bytes[isBig ? index : bytes.count - 1 - index])
        }
        return bits
    }

    private static func integer(_ type: hid_t, _ bytes: UnsafeRawBufferPointer) -> Value {
        let bits = bits(type, bytes)
        guard H5Tget_sign(type) == H5T_SGN_2 else {
            return Int64(exactly: bits).map { .integer($0) } ?? .unsigned(bits)
        }
        let shift = Int64(64 - 8 * min(8, bytes.count))
        return .integer((Int64(bitPattern: bits) << shift) >> shift)
    }

    private static func number(_ type: hid_t, _ bytes: UnsafeRawBufferPointer) throws(CairnError) -> Value {
        guard case .numbers(let scalarType, _, _) = try HDF5Type(type) else {
            throw CairnError(.unsupported, "a number of another form than IEEE 754's")
        }
        var bits = bits(type, bytes).littleEndian
        var result: Double = 0
        do throws(CairnError) {
            try withUnsafeBytes(of: &bits) { source throws(CairnError) in
                try withUnsafeMutableBytes(of: &result) { target throws(CairnError) in
                    var destination = target.mutableBytes
                    try ScalarConversion.convert(
                        source.bytes.extracting(0..<bytes.count), from: scalarType, into: &destination, to: .f64)
                }
            }
        } catch {
            throw error
        }
        return .double(result)
    }

    /// Text of a fixed size, or its bytes when it is no UTF-8.
    private static func text(_ type: hid_t, _ stored: UnsafeRawBufferPointer) -> Value {
        var bytes = Array(stored)
        let padding = H5Tget_strpad(type)
        if padding == H5T_STR_NULLTERM, let end = bytes.firstIndex(of: 0) { bytes.removeSubrange(end...) }
        while bytes.last == 0 { bytes.removeLast() }
        if padding == H5T_STR_SPACEPAD { while bytes.last == UInt8(ascii: " ") { bytes.removeLast() } }
        return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(bytes)
    }
}

/// Shapes.
enum HDF5Space {
    /// The extents; none for a single element, `nil` where there are no elements at all.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for extents that are no `Int`s.
    static func extents(_ space: hid_t) throws(CairnError) -> [Int]? {
        switch H5Sget_simple_extent_type(space) {
        case H5S_NULL: return nil
        case H5S_SCALAR: return []
        case H5S_SIMPLE:
            let count = H5Sget_simple_extent_ndims(space)
            guard count >= 0, count <= 32 else { throw HDF5Library.failure("find the number of dimensions") }
            var extents = [hsize_t](repeating: 0, count: Int(max(1, count)))
            guard H5Sget_simple_extent_dims(space, &extents, nil) == count else {
                throw HDF5Library.failure("find the extents")
            }
            var result: [Int] = []
            for extent in extents.prefix(Int(count)) {
                guard let extent = Int(exactly: extent) else {
                    throw CairnError(.malformed, "an extent is out of range", .init(found: "\(extent)"))
                }
                result.append(extent)
            }
            return result
        default: throw HDF5Library.failure("find the kind of a shape")
        }
    }
}
