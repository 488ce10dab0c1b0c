import CHDF5
import CHDF5Calls
import CairnBase
import CairnInterop
import CairnTensor

/// Values as attributes, in the forms in which h5py writes Python's.
enum HDF5Attribute {
    /// What all elements of a list are.
    enum Kind {
        case bool, integer, unsigned, double, text
    }

    /// The kind of a list that is one array; `nil` for others. An empty list is an array of no integers.
    static func kind(of elements: [Value]) -> Kind? {
        guard let first = elements.first else { return .integer }
        guard let kind = kind(of: first) else { return nil }
        return elements.allSatisfy { self.kind(of: $0) == kind } ? kind : nil
    }

    private static func kind(of value: Value) -> Kind? {
        switch value {
        case .bool: .bool
        case .integer: .integer
        case .unsigned: .unsigned
        case .double: .double
        // Text of any length ends at a NUL.
        case .string(let text): text.utf8.contains(0) ? nil : .text
        default: nil
        }
    }

    /// Whether a value is one attribute.
    static func canHold(_ value: Value) -> Bool {
        switch value {
        case .null: true
        case .bytes(let bytes): !bytes.isEmpty
        case .list(let elements): kind(of: elements) != nil
        case .dictionary: false
        case .string(let text): kind(of: value) != nil || text.utf8.last != 0
        default: kind(of: value) != nil
        }
    }

    static func write(_ value: Value, _ name: String, to object: hid_t) throws(CairnError) {
        switch value {
        case .null:
            let space = try HDF5Handle(H5Screate(H5S_NULL), closing: H5Sclose, "make a shape")
            _ = try attribute(name, cairn_h5_stored_integer(1, 8), space.id, of: object)
        case .bytes(let bytes):
            let type = try HDF5Handle(H5Tcreate(H5T_OPAQUE, bytes.count), closing: H5Tclose, "make a type")
            try write(bytes, as: type.id, shape: nil, name, to: object)
        case .list(let elements): try write(elements, shape: elements.count, name, to: object)
        case .string(let text) where text.utf8.contains(0): try writeFixed(text, name, to: object)
        default: try write([value], shape: nil, name, to: object)
        }
    }

    /// Elements of one kind; `shape` is how many there are, or `nil` for a single one without dimensions.
    private static func write(
        _ elements: [Value], shape: Int?, _ name: String, to object: hid_t
    ) throws(CairnError) {
        switch kind(of: elements) {
        case .bool:
            let type = try HDF5Dataset.boolean()
            let bytes = elements.map { $0 == .bool(true) ? UInt8(1) : 0 }
            try write(bytes, as: type.id, shape: shape, name, to: object)
        case .integer:
            let numbers = elements.compactMap { $0.signedInteger?.littleEndian }
            try write(numbers, as: cairn_h5_stored_integer(1, 8), shape: shape, name, to: object)
        case .unsigned:
            let numbers = elements.compactMap { $0.unsignedInteger?.littleEndian }
            try write(numbers, as: cairn_h5_stored_integer(0, 8), shape: shape, name, to: object)
        case .double:
            let numbers = elements.compactMap { $0.number?.bitPattern.littleEndian }
            let type = try HDF5Handle(cairn_h5_stored_float(8), closing: H5Tclose, "make a type")
            try write(numbers, as: type.id, shape: shape, name, to: object)
        case .text: try writeTexts(elements, shape: shape, name, to: object)
        case nil: throw CairnError(.unsupported, "no attribute can hold the value")
        }
    }

    /// Text with a NUL in it, which ends one of any length.
    private static func writeFixed(_ text: String, _ name: String, to object: hid_t) throws(CairnError) {
        let type = try HDF5Handle(cairn_h5_type_fixed_text(text.utf8.count), closing: H5Tclose, "make a type")
        try write(Array(text.utf8), as: type.id, shape: nil, name, to: object)
    }

    private static func writeTexts(
        _ elements: [Value], shape: Int?, _ name: String, to object: hid_t
    ) throws(CairnError) {
        // One after the other with a NUL behind each, and where each begins.
        var bytes: [CChar] = []
        var starts: [Int] = []
        for text in elements.compactMap(\.text) {
            starts.append(bytes.count)
            bytes += text.utf8.map { CChar(bitPattern: $0) } + [0]
        }
        let type = try HDF5Handle(cairn_h5_type_text(), closing: H5Tclose, "make a type")
        let failure = bytes.withUnsafeBufferPointer { bytes -> CairnError? in
            let pointers = starts.map { start in bytes.baseAddress.map { $0 + start } }
            do throws(CairnError) {
                try write(pointers, as: type.id, shape: shape, name, to: object)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }

    private static func write<Element>(
        _ elements: [Element], as type: hid_t, shape: Int?, _ name: String, to object: hid_t
    ) throws(CairnError) {
        var extent = hsize_t(shape ?? 1)
        let space = try HDF5Handle(
            shape == nil ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &extent, nil), closing: H5Sclose, "make a shape")
        let attribute = try attribute(name, type, space.id, of: object)
        guard !elements.isEmpty else { return }
        let status = elements.withUnsafeBytes { H5Awrite(attribute.id, type, $0.baseAddress) }
        try HDF5Library.check(status, "write an attribute")
    }

    private static func attribute(
        _ name: String, _ type: hid_t, _ space: hid_t, of object: hid_t
    ) throws(CairnError) -> HDF5Handle {
        try HDF5Handle(
            H5Acreate2(object, name, type, space, defaultProperties, defaultProperties), closing: H5Aclose,
            "make an attribute")
    }
}
