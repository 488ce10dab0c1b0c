package import CairnBase
import CairnTensor

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
