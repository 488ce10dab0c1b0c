import CHDF5
import CairnBase
import CairnTensor

/// Text of any length as it is stored: its length, and where in a global heap it is. HDF5 sees it as a floating-point
/// type that nobody else has, so that it passes the bytes on as they are.
enum AnyLengthText {
    /// A length of four bytes, an address of eight, a number of four.
    static let byteCount = 16
    /// The bias of the exponent: what tells the type from others.
    private static let mark: UInt32 = 0x4E52_4943

    /// Puts the description of the disguise in the place of that of the text; both have 20 bytes.
    static func replaceType(_ bytes: UnsafeMutableRawBufferPointer) -> Bool {
        guard bytes.count == 20 else { return false }
        // Version 1 of a float; little-endian, an implied first bit, the sign at the top; 16 bytes; bits from 0 on, 128
        // of them; an exponent of 7 bits above a mantissa of 120.
        let type: [UInt8] = [0x11, 0x20, 127, 0, 16, 0, 0, 0, 0, 0, 128, 0, 120, 7, 0, 120]
        bytes.copyBytes(from: type)
        for index in 0..<4 { bytes[16 + index] = UInt8(truncatingIfNeeded: mark >> UInt32(index * 8)) }
        return true
    }

    /// Whether a type is the disguise.
    static func isType(_ type: hid_t) -> Bool {
        H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == byteCount && H5Tget_ebias(type) == Int(mark)
    }

    /// The text that an element stands for, or its bytes when they are no UTF-8.
    static func value(_ element: UnsafeRawBufferPointer, in file: HDF5File) throws(CairnError) -> Value {
        guard let length = ObjectHeaderBlock.integer(element, 0, 4), length > 0,
            let address = ObjectHeaderBlock.integer(element, 4, 8), address > 0,
            let index = ObjectHeaderBlock.integer(element, 12, 4)
        else { return .string("") }
        let object = try file.heapObject(address, index)
        guard length <= object.count else {
            throw CairnError(
                .malformed, "a text is longer than its place in the file",
                .init(offset: address, expected: "at most \(object.count) bytes", found: "\(length)"))
        }
        // Some writers count the NUL at the end.
        let bytes = object.prefix(length).prefix { $0 != 0 }
        return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    }
}
