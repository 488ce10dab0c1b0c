import CZstd
import CairnBase

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
