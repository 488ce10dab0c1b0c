package import CairnBase
package import CairnStorage
package import CairnTensor

/// What stands before the data of a safetensors file: each tensor's name, type, shape and byte range, and text beside them.
///
/// Source: the format's description at https://github.com/huggingface/safetensors and the outcomes of its library, 0.8.
/// Reading follows the library, except that every repeated name is an error, as the description has it.
package struct SafeTensorsHeader: Sendable {
    /// One tensor of the file.
    package struct Entry: Sendable, Hashable {
        /// The tensor's name, any text but `__metadata__`.
        package var name: String
        /// The type of the elements.
        package var scalarType: ScalarType
        /// The tensor's shape.
        package var shape: Shape
        /// Where the elements are, in bytes from the data's start.
        package var byteRange: Range<Int>

        package init(name: String, scalarType: ScalarType, shape: Shape, byteRange: Range<Int>) {
            self.name = name
            self.scalarType = scalarType
            self.shape = shape
            self.byteRange = byteRange
        }
    }

    /// The most bytes of JSON that the format allows.
    package static let greatestByteCount = 100_000_000
    /// The bytes before the JSON: its length.
    package static let prefixByteCount = 8
    /// The member that holds text instead of a tensor.
    static let metadataName = "__metadata__"

    /// The tensors in the order of their bytes. In a header that was read they fill the data without holes.
    package var entries: [Entry]
    /// The text beside the tensors, each key once, in the order of the file.
    package var metadata: [(key: String, value: String)]
    /// Where the data begins in the file, in bytes.
    package var dataStart: Int

    package init(entries: [Entry], metadata: [(key: String, value: String)] = [], dataStart: Int = 0) {
        self.entries = entries
        self.metadata = metadata
        self.dataStart = dataStart
    }

    /// How many bytes of data the tensors fill.
    package var dataByteCount: Int { entries.last?.byteRange.upperBound ?? 0 }

    /// The text under `key`.
    package func metadata(_ key: String) -> String? {
        metadata.first { ExactString($0.key) == ExactString(key) }?.value
    }

    /// Reads and checks the header of an open file.
    ///
    /// Never allocates more than the file holds.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for anything against the format, ``CairnError/Code/incomplete`` for a
    ///   file that ends before the header or the data does, ``CairnError/Code/unsupported`` for an unknown type.
    package static func read(from file: any StorageFile) throws(CairnError) -> SafeTensorsHeader {
        guard file.byteCount >= prefixByteCount else {
            throw CairnError(
                .incomplete, "the file is too short for a safetensors file",
                .init(file: file.key, expected: "at least \(prefixByteCount) bytes", found: "\(file.byteCount)"))
        }
        let prefix = try file.bytes(in: 0..<prefixByteCount)
        let length = prefix.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(greatestByteCount) else {
            throw CairnError(
                .malformed, "not a safetensors file: the header's length is out of range",
                .init(file: file.key, offset: 0, expected: "at most \(greatestByteCount)", found: "\(length)"))
        }
        let dataStart = prefixByteCount + Int(length)
        guard dataStart <= file.byteCount else {
            throw CairnError(
                .incomplete, "the file ends within the header",
                .init(file: file.key, offset: 0, expected: "\(dataStart) bytes", found: "\(file.byteCount)"))
        }
        let json = try file.bytes(in: prefixByteCount..<dataStart)
        return try parse(
            headerJSON: json.span, dataStart: dataStart, dataByteCount: file.byteCount - dataStart, file: file.key)
    }
}
