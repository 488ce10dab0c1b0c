import CairnBase
import CairnTensor

/// Strings of variable length: an element holds the length of its string and its location in a global heap.
enum VariableLengthString {
    /// The string of an element, or its bytes when they are not UTF-8.
    static func value(_ element: UnsafeRawBufferPointer, in file: HDF5File) throws(CairnError) -> Value {
        // A length of four bytes, an address, a number of four.
        let width = element.count - 8
        guard let length = ObjectHeaderBlock.integer(element, 0, 4), length > 0,
            let address = ObjectHeaderBlock.integer(element, 4, width), address > 0,
            let index = ObjectHeaderBlock.integer(element, 4 + width, 4)
        else { return .string("") }
        let object = try file.heapObject(address, index)
        guard length <= object.count else {
            throw CairnError(
                .malformed, "a string is longer than its space in the file",
                .init(offset: address, expected: "at most \(object.count) bytes", found: "\(length)"))
        }
        // Some writers count the NUL at the end.
        let bytes = object.prefix(length).prefix { $0 != 0 }
        return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    }
}
