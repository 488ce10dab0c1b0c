package import CairnBase
import CairnTensor

extension SafeTensorsHeader {
    /// Reads and checks the JSON of a header.
    ///
    /// - Parameters:
    ///   - bytes: The JSON, with the white space around it.
    ///   - dataStart: Where the data begins in the file, in bytes.
    ///   - dataByteCount: How many bytes of data the file has.
    ///   - file: The file's name, for errors.
    /// - Throws: As ``read(from:)``.
    package static func parse(
        headerJSON bytes: Span<UInt8>, dataStart: Int, dataByteCount: Int, file: String
    ) throws(CairnError) -> SafeTensorsHeader {
        var parser = HeaderParser()
        do throws(JSONError) {
            // The library nests to the same depth.
            var reader = JSONReader(bytes, maximumDepth: 128)
            try parser.readHeader(&reader)
        } catch {
            let unsupported = parser.unsupported?.adding(.init(file: file))
            throw unsupported ?? error.cairnError(file: file, baseOffset: prefixByteCount)
        }
        var entries: [Entry] = []
        entries.reserveCapacity(parser.entries.count)
        for raw in parser.entries { entries.append(try raw.checked(file: file)) }
        entries.sort(by: precedesInFile)
        try checkNames(entries, file: file)
        try checkCoverage(entries, dataByteCount: dataByteCount, file: file)
        return SafeTensorsHeader(entries: entries, metadata: parser.metadata ?? [], dataStart: dataStart)
    }

    /// By place; of tensors without elements, which share an offset, by name.
    private static func precedesInFile(_ left: Entry, _ right: Entry) -> Bool {
        if left.byteRange.lowerBound != right.byteRange.lowerBound {
            return left.byteRange.lowerBound < right.byteRange.lowerBound
        }
        if left.byteRange.upperBound != right.byteRange.upperBound {
            return left.byteRange.upperBound < right.byteRange.upperBound
        }
        return ExactString(left.name) < ExactString(right.name)
    }

    private static func checkNames(_ entries: [Entry], file: String) throws(CairnError) {
        var names = Set<ExactString>(minimumCapacity: entries.count)
        for entry in entries where !names.insert(ExactString(entry.name)).inserted {
            throw CairnError(.malformed, "the header names a tensor twice", .init(file: file, tensor: entry.name))
        }
    }

    private static func checkCoverage(
        _ entries: [Entry], dataByteCount: Int, file: String
    ) throws(CairnError) {
        var end = 0
        for (index, entry) in entries.enumerated() {
            let begin = entry.byteRange.lowerBound
            guard begin == end else {
                let before = begin < end && index > 0 ? ", where \"\(entries[index - 1].name)\" is" : ""
                throw CairnError(
                    .malformed, "the tensors leave a hole in the data or overlap",
                    .init(
                        file: file, tensor: entry.name, expected: "data from \(end)", found: "from \(begin)\(before)",
                        advice: "what wrote the file is at fault: take it from its source again, or write it anew"))
            }
            end = entry.byteRange.upperBound
        }
        guard end != dataByteCount else { return }
        throw CairnError(
            end > dataByteCount ? .incomplete : .malformed,
            end > dataByteCount ? "the file ends within the data" : "the file goes on behind the last tensor",
            .init(
                file: file, tensor: end > dataByteCount ? entries.last?.name : nil, expected: "\(end) bytes of data",
                found: "\(dataByteCount)",
                advice: end > dataByteCount
                    ? "the file was cut short: take another copy" : "take another copy, or cut the file after its data"))
    }
}

/// Takes the members of a header as they come, before anything is compared with anything else.
private struct HeaderParser {
    struct RawEntry {
        var name: String
        var scalarType: ScalarType
        var extents: [Int]
        var begin: Int
        var end: Int
    }

    var entries: [RawEntry] = []
    var metadata: [(key: String, value: String)]?
    /// Why parsing stopped, when it is not the JSON's fault.
    var unsupported: CairnError?
    // Neighbours mostly have one type, and comparing with the last is cheaper than looking it up.
    private var lastTypeName = ScalarType.f32.rawValue
    private var lastType = ScalarType.f32

    init() {}

    mutating func readHeader(_ reader: inout JSONReader) throws(JSONError) {
        try reader.readObject { reader, name throws(JSONError) in
            if name == SafeTensorsHeader.metadataName {
                try readMetadata(&reader)
            } else {
                try readEntry(name, &reader)
            }
        }
        try reader.finish()
    }

    private mutating func readMetadata(_ reader: inout JSONReader) throws(JSONError) {
        guard metadata == nil else { throw reader.error("the member \"\(SafeTensorsHeader.metadataName)\" repeats") }
        var texts: [(key: String, value: String)] = []
        if try reader.peekKind() == .null {
            try reader.readNull()
        } else {
            var keys: Set<ExactString> = []
            try reader.readObject { reader, key throws(JSONError) in
                guard keys.insert(ExactString(key)).inserted else {
                    throw reader.error("the metadata \"\(key)\" repeats")
                }
                texts.append((key, try reader.readString()))
            }
        }
        metadata = texts
    }

    private mutating func readEntry(_ name: String, _ reader: inout JSONReader) throws(JSONError) {
        var scalarType: ScalarType?
        var extents: [Int]?
        var offsets: (begin: Int, end: Int)?
        try reader.readObject { reader, key throws(JSONError) in
            switch key {
            case "dtype":
                guard scalarType == nil else { throw repeated(key, of: name, reader) }
                scalarType = try readScalarType(of: name, &reader)
            case "shape":
                guard extents == nil else { throw repeated(key, of: name, reader) }
                var found: [Int] = []
                try reader.readArray { reader throws(JSONError) in found.append(try readSize(&reader)) }
                extents = found
            case "data_offsets":
                guard offsets == nil else { throw repeated(key, of: name, reader) }
                offsets = try readOffsets(&reader)
            default: break  // skipped, as the library does
            }
        }
        guard let scalarType, let extents, let offsets else {
            let missing = scalarType == nil ? "dtype" : extents == nil ? "shape" : "data_offsets"
            throw reader.error("the tensor \"\(name)\" has no \"\(missing)\"")
        }
        entries.append(
            RawEntry(
                name: name, scalarType: scalarType, extents: extents, begin: offsets.begin, end: offsets.end))
    }

    private mutating func readScalarType(
        of name: String, _ reader: inout JSONReader
    ) throws(JSONError) -> ScalarType {
        let text = try reader.readString()
        if text == lastTypeName { return lastType }
        guard let type = ScalarType(rawValue: text), type.isSafetensorsType else {
            unsupported = CairnError(
                .unsupported, "the element type \"\(text)\" is unknown",
                .init(
                    tensor: name,
                    expected: ScalarType.allCases.filter(\.isSafetensorsType).map(\.rawValue).joined(separator: ", "),
                    advice: "a newer version may know it; else the header is damaged"))
            throw reader.error("unknown element type")
        }
        lastTypeName = text
        lastType = type
        return type
    }

    private func readOffsets(_ reader: inout JSONReader) throws(JSONError) -> (begin: Int, end: Int) {
        var begin: Int?
        var end: Int?
        try reader.readArray { reader throws(JSONError) in
            let offset = try readSize(&reader)
            if begin == nil {
                begin = offset
            } else if end == nil {
                end = offset
            } else {
                throw reader.error("\"data_offsets\" has more than two elements")
            }
        }
        guard let begin, let end else { throw reader.error("\"data_offsets\" has fewer than two elements") }
        return (begin, end)
    }

    private func readSize(_ reader: inout JSONReader) throws(JSONError) -> Int {
        let size = try reader.readInteger()
        guard size >= 0 else { throw reader.error("expected a size, found \(size)") }
        return size
    }

    private func repeated(_ key: String, of name: String, _ reader: borrowing JSONReader) -> JSONError {
        JSONError(offset: reader.offset, "the member \"\(key)\" of the tensor \"\(name)\" repeats")
    }
}

extension HeaderParser.RawEntry {
    /// The entry, if type, shape and byte range agree.
    func checked(file: String) throws(CairnError) -> SafeTensorsHeader.Entry {
        let shape: Shape
        do throws(CairnError) {
            shape = try Shape(checking: extents)
        } catch {
            throw error.adding(.init(file: file, tensor: name))
        }
        guard let byteCount = scalarType.byteCount(elementCount: shape.elementCount) else {
            throw CairnError(
                .malformed, "the elements do not fill a representable number of whole bytes",
                .init(file: file, tensor: name, found: "\(scalarType)\(shape)"))
        }
        // Both are at least zero, so the difference does not overflow.
        guard end - begin == byteCount else {
            throw CairnError(
                .malformed, "the tensor's byte range has another size than type and shape need",
                .init(
                    file: file, tensor: name, expected: "\(byteCount) bytes for \(scalarType)\(shape)",
                    found: "\(begin)..\(end)"))
        }
        return SafeTensorsHeader.Entry(name: name, scalarType: scalarType, shape: shape, byteRange: begin..<end)
    }
}
