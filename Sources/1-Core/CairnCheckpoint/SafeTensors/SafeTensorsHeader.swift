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

extension SafeTensorsHeader {
    /// The file up to its data: the length, the JSON, and spaces that bring the data to its place.
    ///
    /// Metadata and tensors are written in the order they have here, so equal headers give equal bytes.
    ///
    /// - Parameters:
    ///   - alignment: What the size of the result is a multiple of, in bytes, at least 1; the format asks for 8.
    ///   - minimumByteCount: The least size of the result, for a header that takes a reserved place.
    /// - Throws: ``CairnError/Code/unsupported`` when the JSON is longer than the format allows or a tensor has the
    ///   name that is reserved for metadata or a type that the format lacks, ``CairnError/Code/invalidArgument`` when
    ///   a name repeats.
    package func serialized(alignment: Int, minimumByteCount: Int = 0) throws(CairnError) -> [UInt8] {
        try checkForWriting()
        var writer = JSONWriter()
        writer.beginObject()
        if !metadata.isEmpty {
            writer.key(Self.metadataName)
            writer.beginObject()
            for text in metadata {
                writer.key(text.key)
                writer.write(text.value)
            }
            writer.endObject()
        }
        for entry in entries {
            writer.key(entry.name)
            writer.beginObject()
            writer.key("dtype")
            writer.write(entry.scalarType.rawValue)
            writer.key("shape")
            writer.beginArray()
            for extent in entry.shape.extents { writer.write(extent) }
            writer.endArray()
            writer.key("data_offsets")
            writer.beginArray()
            writer.write(entry.byteRange.lowerBound)
            writer.write(entry.byteRange.upperBound)
            writer.endArray()
            writer.endObject()
        }
        writer.endObject()
        let json = writer.finish()
        let needed = max(Self.prefixByteCount + json.count, minimumByteCount)
        guard let total = needed.roundedUp(toMultipleOf: max(1, alignment)),
            total - Self.prefixByteCount <= Self.greatestByteCount
        else {
            throw CairnError(
                .unsupported, "the header is longer than safetensors allows",
                .init(
                    expected: "at most \(Self.greatestByteCount) bytes", found: "\(needed)",
                    advice: "write several files"))
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(total)
        let length = UInt64(total - Self.prefixByteCount)
        for index in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: length >> (8 * UInt64(index)))) }
        bytes.append(contentsOf: json)
        bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: total - bytes.count))
        return bytes
    }

    private func checkForWriting() throws(CairnError) {
        var names = Set<ExactString>(minimumCapacity: entries.count)
        for entry in entries {
            guard ExactString(entry.name) != ExactString(Self.metadataName) else {
                throw CairnError(
                    .unsupported, "safetensors reserves this name for metadata",
                    .init(tensor: entry.name, advice: "rename the tensor"))
            }
            guard entry.scalarType.isSafetensorsType else {
                throw CairnError(
                    .unsupported, "safetensors files, and Cairn's own, have no such element type",
                    .init(tensor: entry.name, found: "\(entry.scalarType)", advice: "leave the tensor out"))
            }
            guard names.insert(ExactString(entry.name)).inserted else {
                throw CairnError(.invalidArgument, "two tensors of one name", .init(tensor: entry.name))
            }
        }
        names.removeAll()
        for text in metadata where !names.insert(ExactString(text.key)).inserted {
            throw CairnError(.invalidArgument, "two metadata of one key", .init(found: text.key.debugDescription))
        }
    }
}
