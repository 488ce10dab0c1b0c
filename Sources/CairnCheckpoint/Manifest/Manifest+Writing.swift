package import CairnBase
import CairnTensor

extension Manifest {
    /// The text of `manifest.json`: deterministic, one tensor a line, sealed by a CRC-32C of everything before it.
    ///
    /// - Parameter threshold: What grows with the checkpoint is packed when it takes more bytes than this.
    /// - Throws: ``CairnError/Code/invalidArgument`` for values that are nested too deeply.
    package func encoded(packingAbove threshold: Int = ManifestPacking.threshold) throws(CairnError) -> [UInt8] {
        let members = try growingMembers().joined(separator: ",\n")
        let packed = members.utf8.count > threshold ? ManifestPacking.packed(members) : nil
        var lines: [String] = []
        lines.append("\"cairn\":\(Self.formatVersion)")
        let requirements = [
            packed == nil ? nil : ManifestPacking.requirement, layouts.isEmpty ? nil : Self.layoutsRequirement,
        ].compactMap { $0 }
        lines.append("\"requires\":" + text(.array(requirements.map { .string($0) })))
        lines.append("\"producer\":\(text(.string(producer)))")
        lines.append("\"save_id\":\"\(saveID)\"")
        lines.append("\"step\":\(step)")
        lines.append("\"time\":\(text(try ValueCoding.json(.double(time))))")
        lines.append("\"metrics\":\(text(try metricsJSON()))")
        if let lineage { lines.append("\"lineage\":\(text(try lineage.json()))") }
        lines.append(packed.map { "\"\(ManifestPacking.requirement)\":\($0)" } ?? members)
        var bytes = Array(("{" + lines.joined(separator: ",\n")).utf8)
        let checksum = CRC32C.checksum(bytes.span.bytes)
        bytes += ManifestSeal.text(checksum).utf8
        return bytes
    }

    /// The members whose size depends on the checkpoint, as JSON.
    private func growingMembers() throws(CairnError) -> [String] {
        var lines: [String] = []
        lines.append("\"files\":" + list(files.map { text($0.json) }))
        if !layouts.isEmpty { lines += layoutLines() }
        lines.append("\"tensors\":" + list(tensors.map { text($0.json) }))
        lines.append("\"ties\":" + list(ties.map { text(.array([.string($0.name), .string($0.target)])) }))
        var named: [String] = []
        for entry in values {
            named.append(text(.array([.string(entry.name), try ValueCoding.json(entry.value)])))
        }
        lines.append("\"values\":" + list(named))
        return lines
    }

    private func metricsJSON() throws(CairnError) -> JSONValue {
        var object = JSONObject()
        for (name, value) in metrics.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            _ = object.append(name, try ValueCoding.json(.double(value)))
        }
        return .object(object)
    }

    func list(_ elements: [String]) -> String {
        elements.isEmpty ? "[]" : "[\n" + elements.joined(separator: ",\n") + "\n]"
    }
}

/// The end of a manifest: a comma, a line feed, `"checksum":"crc32c:xxxxxxxx"}` and a line feed, the checksum being that of
/// all bytes before.
package enum ManifestSeal {
    /// The length of every seal.
    package static let byteCount = 32

    package static func text(_ checksum: UInt32) -> String {
        ",\n\"checksum\":\"crc32c:\(checksumText(checksum))\"}\n"
    }
}

/// Eight lowercase hexadecimal digits.
func checksumText(_ checksum: UInt32) -> String {
    let digits = String(checksum, radix: 16)
    return String(repeating: "0", count: 8 - digits.utf8.count) + digits
}

/// The compact text of a JSON value that holds finite doubles only.
func text(_ json: JSONValue) -> String {
    var writer = JSONWriter()
    // `ValueCoding` tags doubles that are not finite, so this cannot fail; an empty text would fail to parse, not pass.
    do { try writer.write(json) } catch { return "" }
    return String(decoding: writer.finish(), as: UTF8.self)
}

extension Manifest.File {
    var json: JSONValue {
        .object([
            "name": .string(name), "rank": .integer(Int64(rank)), "bytes": .integer(Int64(byteCount)),
            "header_bytes": .integer(Int64(headerByteCount)), "header_crc32c": .string(checksumText(headerChecksum)),
        ])
    }
}

extension Manifest.StoredTensor {
    var json: JSONValue {
        var object: JSONObject = [
            "name": .string(name), "dtype": .string(scalarType.rawValue), "shape": integers(shape.extents),
        ]
        if let layout {
            _ = object.append("layout", .integer(Int64(layout)))
        } else if fragments.count == 1, let only = fragments.first, only.region.covers(shape) {
            _ = object.append("file", .integer(Int64(only.file)))
        } else {
            _ = object.append("fragments", .array(fragments.map { fragment in
                .array([
                    .integer(Int64(fragment.file)), integers(fragment.region.offsets),
                    integers(fragment.region.shape.extents),
                ])
            }))
        }
        return .object(object)
    }
}

/// A JSON list of integers.
func integers(_ values: [Int]) -> JSONValue { .array(values.map { .integer(Int64($0)) }) }

extension Lineage {
    func json() throws(CairnError) -> JSONValue {
        var list: [JSONValue] = []
        for parent in parents {
            var object = JSONObject()
            if let step = parent.step { _ = object.append("step", .integer(Int64(step))) }
            if let saveID = parent.saveID { _ = object.append("save_id", .string(saveID.description)) }
            if let source = parent.source { _ = object.append("source", .string(source)) }
            if let coefficient = parent.coefficient {
                _ = object.append("coefficient", try ValueCoding.json(.double(coefficient)))
            }
            list.append(.object(object))
        }
        var object: JSONObject = ["operation": .string(operation), "parents": .array(list)]
        if !details.isEmpty { _ = object.append("details", try ValueCoding.json(.dictionary(details))) }
        return .object(object)
    }

    /// The text that files of other formats carry along.
    package func text() throws(CairnError) -> String { CairnCheckpoint.text(try json()) }
}
