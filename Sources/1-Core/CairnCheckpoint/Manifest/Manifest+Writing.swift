import CZstd
public import CairnBase
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
            earlier.isEmpty ? nil : Self.referencesRequirement,
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
        if !earlier.isEmpty { lines.append("\"earlier\":" + list(earlier.map { text(.object($0.json)) })) }
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
            if !elsewhere.isEmpty {
                _ = object.append("elsewhere", .array(elsewhere.map { integers([$0.rank, $0.file]) }))
            }
        } else if fragments.count == 1, let only = fragments.first, only.region.covers(shape) {
            _ = object.append("file", .integer(Int64(only.file)))
        } else {
            _ = object.append(
                "fragments",
                .array(
                    fragments.map { fragment in
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

    /// The text that files of other formats carry along, safetensors under `cairn.lineage` of its metadata.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for details that are nested too deep.
    public func text() throws(CairnError) -> String { CairnCheckpoint.text(try json()) }
}

/// Big manifests are compressed inside: the members that grow with the checkpoint become one member, `packed`, and the file
/// stays a sealed JSON object under the one name whose appearance commits.
package enum ManifestPacking {
    /// The requirement that tells readers of it.
    static let requirement = "packed"
    /// Members that take more bytes than this together are packed.
    package static let threshold = 1 << 20
    /// What is smaller than this part of its plain length is not packed, and refused: no claim costs more memory.
    static let greatestRatio = 1024

    /// The value of `packed` for members, as JSON without the braces around them; `nil` where it would not pay.
    static func packed(_ members: String) -> String? {
        let plain = Array("{\(members)}".utf8)
        guard plain.count <= Manifest.maximumByteCount, let frame = frame(of: plain), frame.count < plain.count / 4 * 3,
            plain.count / frame.count < greatestRatio
        else { return nil }
        return "{\"bytes\":\(plain.count),\"zstd\":\"\(Base64.encode(frame))\"}"
    }

    /// One zstd frame (RFC 8878).
    package static func frame(of plain: [UInt8]) -> [UInt8]? {
        var frame = [UInt8](repeating: 0, count: ZSTD_compressBound(plain.count))
        let size = frame.withUnsafeMutableBytes { target in
            plain.withUnsafeBytes { ZSTD_compress(target.baseAddress, target.count, $0.baseAddress, $0.count, 3) }
        }
        guard ZSTD_isError(size) == 0 else { return nil }
        frame.removeLast(frame.count - size)
        return frame
    }

    /// The members of a manifest with those of `packed` among them.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for an invalid frame, a length that is not the frame's or too large to
    ///   be honest, and members that are there already.
    static func unpacked(_ root: JSONObject) throws -> JSONObject {
        let packed = try root.object(requirement)
        let byteCount = try packed.integer("bytes")
        let frame = try Base64.decode(packed.string("zstd"))
        guard byteCount > 0, byteCount <= Manifest.maximumByteCount, byteCount / greatestRatio <= frame.count else {
            throw CairnError(
                .malformed, "the packed part of the manifest claims an impossible length",
                .init(found: "\(byteCount) bytes from \(frame.count)"))
        }
        var plain = [UInt8](repeating: 0, count: byteCount)
        let size = plain.withUnsafeMutableBytes { target in
            frame.withUnsafeBytes { ZSTD_decompress(target.baseAddress, target.count, $0.baseAddress, $0.count) }
        }
        guard size == byteCount else {
            throw CairnError(.malformed, "the packed part of the manifest does not expand to its length")
        }
        let members: JSONObject
        do throws(JSONError) {
            members = try JSONValue(parsing: plain, maximumDepth: 48).asObject()
        } catch {
            // The offset is one in the expanded text and would mislead in the file.
            throw CairnError(.malformed, "the packed part of the manifest cannot be read: \(error)")
        }
        var whole = root
        whole[requirement] = nil
        for member in members.members {
            guard root[member.key] == nil, whole.append(member.key, member.value) else {
                throw CairnError(.malformed, "a member stands inside and outside the packed part", .init(found: member.key))
            }
        }
        return whole
    }
}
