import CHDF5
import CairnBase
import CairnTensor

/// How HDF5 stores the elements of a dataset.
enum HDF5Type {
    /// The bits of a type that tensors have; numbers of `swapped` bytes have their bytes in the other order. `inner`
    /// are further dimensions that every element has.
    case numbers(ScalarType, swapped: Int?, inner: [Int])
    /// Integers that do not fill their bytes, which HDF5 turns into these.
    case converted(ScalarType)
    /// Bytes of unknown meaning, so many an element.
    case opaque(Int)
    /// Text and records, which become values.
    case value
    /// What is not understood, in words.
    case unknown(String)

    private static let deepestArray = 8

    init(_ type: hid_t, depth: Int = 0) throws(CairnError) {
        let size = H5Tget_size(type)
        guard size > 0 else { throw HDF5Library.failure("find the size of a type") }
        switch H5Tget_class(type) {
        case H5T_INTEGER, H5T_BITFIELD: self = Self.integer(type, size)
        case H5T_FLOAT: self = AnyLengthText.isType(type) ? .value : Self.float(type, size)
        case H5T_STRING, H5T_VLEN: self = .value
        case H5T_ENUM: self = try Self.enumeration(type)
        case H5T_OPAQUE: self = .opaque(size)
        case H5T_COMPOUND: self = try Self.compound(type, size)
        case H5T_ARRAY where depth < Self.deepestArray: self = try Self.array(type, depth)
        case H5T_REFERENCE: self = .unknown("references")
        default: self = .unknown("elements of a class that is not known")
        }
    }

    private static func integer(_ type: hid_t, _ size: Int) -> HDF5Type {
        let isSigned = H5Tget_class(type) == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2
        let holding: ScalarType
        switch size {
        case 1: holding = isSigned ? .i8 : .u8
        case 2: holding = isSigned ? .i16 : .u16
        case 3, 4: holding = isSigned ? .i32 : .u32
        case 5...8: holding = isSigned ? .i64 : .u64
        default: return .unknown("\(size)-byte integers")
        }
        let order = H5Tget_order(type)
        let isWhole = H5Tget_precision(type) == size * 8 && H5Tget_offset(type) == 0 && holding.byteWidth == size
        guard isWhole, size == 1 || order == H5T_ORDER_LE || order == H5T_ORDER_BE else { return .converted(holding) }
        return .numbers(holding, swapped: size > 1 && order == H5T_ORDER_BE ? size : nil, inner: [])
    }

    private static func float(_ type: hid_t, _ size: Int) -> HDF5Type {
        var sign = 0
        var exponent = 0
        var exponentSize = 0
        var mantissa = 0
        var mantissaSize = 0
        let order = H5Tget_order(type)
        guard H5Tget_fields(type, &sign, &exponent, &exponentSize, &mantissa, &mantissaSize) >= 0,
            H5Tget_norm(type) == H5T_NORM_IMPLIED, mantissa == 0, H5Tget_offset(type) == 0,
            exponent == mantissaSize, sign == size * 8 - 1, exponentSize + mantissaSize == sign,
            order == H5T_ORDER_LE || order == H5T_ORDER_BE
        else { return .unknown("\(size)-byte floating-point numbers of another form than IEEE 754's") }
        let scalarType: ScalarType
        switch (size, exponentSize, H5Tget_ebias(type)) {
        case (8, 11, 1023): scalarType = .f64
        case (4, 8, 127): scalarType = .f32
        case (2, 5, 15): scalarType = .f16
        case (2, 8, 127): scalarType = .bf16
        case (1, 5, 15): scalarType = .f8e5m2
        case (1, 4, 7): scalarType = .f8e4m3
        default: return .unknown("\(size)-byte floating-point numbers with \(exponentSize) bits of exponent")
        }
        return .numbers(scalarType, swapped: size > 1 && order == H5T_ORDER_BE ? size : nil, inner: [])
    }

    private static func enumeration(_ type: hid_t) throws(CairnError) -> HDF5Type {
        if isBoolean(type) { return .numbers(.bool, swapped: nil, inner: []) }
        let base = try HDF5Handle(H5Tget_super(type), closing: H5Tclose, "find the type of an enumeration")
        return integer(base.id, H5Tget_size(base.id))
    }

    /// Whether an enumeration is h5py's truth value: FALSE = 0 and TRUE = 1 in a byte.
    static func isBoolean(_ type: hid_t) -> Bool {
        guard H5Tget_class(type) == H5T_ENUM, H5Tget_size(type) == 1, H5Tget_nmembers(type) == 2 else { return false }
        for (name, expected) in [("FALSE", UInt8(0)), ("TRUE", 1)] {
            var value: UInt8 = 2
            guard H5Tenum_valueof(type, name, &value) >= 0, value == expected else { return false }
        }
        return true
    }

    /// Complex numbers, as h5py writes them, or records.
    private static func compound(_ type: hid_t, _ size: Int) throws(CairnError) -> HDF5Type {
        guard H5Tget_nmembers(type) == 2, memberName(type, 0) == "r", memberName(type, 1) == "i",
            H5Tget_member_offset(type, 0) == 0, H5Tget_member_offset(type, 1) == size / 2
        else { return .value }
        let real = try HDF5Handle(H5Tget_member_type(type, 0), closing: H5Tclose, "find the type of a member")
        let imaginary = try HDF5Handle(H5Tget_member_type(type, 1), closing: H5Tclose, "find the type of a member")
        guard H5Tequal(real.id, imaginary.id) > 0, H5Tget_class(real.id) == H5T_FLOAT,
            H5Tget_size(real.id) == size / 2,
            case .numbers(let part, let swapped, _) = float(real.id, size / 2)
        else { return .value }
        switch part {
        case .f64: return .numbers(.c128, swapped: swapped, inner: [])
        case .f32: return .numbers(.c64, swapped: swapped, inner: [])
        case .f16: return .numbers(.c32, swapped: swapped, inner: [])
        default: return .value
        }
    }

    private static func array(_ type: hid_t, _ depth: Int) throws(CairnError) -> HDF5Type {
        let base = try HDF5Handle(H5Tget_super(type), closing: H5Tclose, "find the type of an array")
        let count = H5Tget_array_ndims(type)
        var extents = [hsize_t](repeating: 0, count: 32)
        guard count > 0, count <= 32, H5Tget_array_dims2(type, &extents) == count else {
            throw HDF5Library.failure("find the shape of an array")
        }
        guard case .numbers(let scalarType, let swapped, let inner) = try HDF5Type(base.id, depth: depth + 1) else {
            return .value
        }
        let outer = extents.prefix(Int(count)).map { Int(clamping: $0) }
        return .numbers(scalarType, swapped: swapped, inner: outer + inner)
    }

    /// The name of a member of a compound or enumeration.
    static func memberName(_ type: hid_t, _ index: UInt32) -> String? {
        guard let text = H5Tget_member_name(type, index) else { return nil }
        defer { H5free_memory(text) }
        return String(validatingCString: text)
    }
}

/// The names by which a `dtype` attribute says what opaque bytes are, as Keras and `ml_dtypes` spell them.
enum OpaqueTypeName {
    private static let names: [(String, ScalarType)] = [
        ("bfloat16", .bf16), ("float8_e4m3fn", .f8e4m3), ("float8_e5m2", .f8e5m2), ("float8_e8m0fnu", .f8e8m0),
        ("float8_e4m3fnuz", .f8e4m3fnuz), ("float8_e5m2fnuz", .f8e5m2fnuz),
        // Packed, with the shape beside it.
        ("F4", .f4), ("F6_E2M3", .f6e2m3), ("F6_E3M2", .f6e3m2)
    ]

    static func scalarType(_ name: String) -> ScalarType? { names.first { $0.0 == name }?.1 }

    static func name(of scalarType: ScalarType) -> String? { names.first { $0.1 == scalarType }?.0 }
}
