import CairnBase
import CairnTensor

/// What a rank file says of itself in the `__metadata__` of its safetensors header.
struct RankFileMetadata: Sendable {
    static let versionKey = "cairn.version"

    var saveID: SaveID
    var step: Int
    var rank: Int
    var rankCount: Int
    var chunkByteCount: Int
    /// This rank's own values.
    var values: [NamedValue]
    /// In rank 0's file: what the manifest says beyond tensors and files, so that a lost manifest can be rebuilt.
    var state: String?

    /// The chunk sizes that are allowed: a power of two from 4 KiB to 64 MiB.
    static func isAllowed(chunkByteCount: Int) -> Bool {
        (4096...(64 << 20)).contains(chunkByteCount) && chunkByteCount.nonzeroBitCount == 1
    }

    /// The entries of `__metadata__`.
    func entries(describing fragments: [StoredFragment]) throws(CairnError) -> [(key: String, value: String)] {
        var named: [JSONValue] = []
        for entry in values {
            named.append(.array([.string(entry.name), try ValueCoding.json(entry.value)]))
        }
        var entries: [(key: String, value: String)] = [
            (Self.versionKey, "\(Manifest.formatVersion)"), ("cairn.save_id", saveID.description),
            ("cairn.step", "\(step)"), ("cairn.rank", "\(rank)"), ("cairn.ranks", "\(rankCount)"),
            ("cairn.chunk_bytes", "\(chunkByteCount)"), ("cairn.fragments", text(describe(fragments))),
            ("cairn.chunks", Self.packedChunks(fragments)), ("cairn.values", text(.array(named))),
        ]
        if let state { entries.append(("cairn.state", state)) }
        return entries
    }

    /// Only what the header itself does not say: nothing at all for a whole tensor stored as it is.
    private func describe(_ fragments: [StoredFragment]) -> JSONValue {
        var object = JSONObject()
        for fragment in fragments {
            var entry = JSONObject()
            if fragment.key != fragment.name { _ = entry.append("name", .string(fragment.name)) }
            if !fragment.region.covers(fragment.globalShape) {
                _ = entry.append("shape", integers(fragment.globalShape.extents))
                _ = entry.append("offset", integers(fragment.region.offsets))
            }
            if fragment.codec != .raw {
                _ = entry.append("codec", .string(fragment.codec.rawValue))
                _ = entry.append("dtype", .string(fragment.scalarType.rawValue))
                _ = entry.append("extent", integers(fragment.region.shape.extents))
            }
            if !entry.members.isEmpty { _ = object.append(fragment.key, .object(entry)) }
        }
        return .object(object)
    }

    /// For each fragment in the order of the file and each chunk of it: the checksum, before it the stored length if the
    /// fragment is compressed. 32-bit little-endian, all in base64.
    private static func packedChunks(_ fragments: [StoredFragment]) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(fragments.reduce(0) { $0 + $1.chunks.count * 8 })
        func append(_ word: UInt32) { for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) } }
        for fragment in fragments {
            for chunk in fragment.chunks {
                if fragment.codec != .raw { append(UInt32(truncatingIfNeeded: chunk.byteCount)) }
                append(chunk.checksum)
            }
        }
        return Base64.encode(bytes)
    }
}
