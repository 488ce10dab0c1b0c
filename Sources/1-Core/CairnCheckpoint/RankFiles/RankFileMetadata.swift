import CairnBase
import CairnTensor

/// What a rank file says of itself in the `__metadata__` of its safetensors header.
struct RankFileMetadata: Sendable {
    static let versionKey = "cairn.version"
    private static let earlierKey = "cairn.earlier"

    var saveID: SaveID
    var step: Int
    var rank: Int
    var rankCount: Int
    var chunkByteCount: Int
    /// This rank's own values.
    var values: [NamedValue]
    /// In rank 0's file: what the manifest says beyond tensors and files, so that a lost manifest can be rebuilt.
    var state: String?
    /// What this rank has not written because earlier files hold it.
    var reused: [ReusedFragments] = []

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
        if !reused.isEmpty { entries.append((Self.earlierKey, text(ReusedFragments.json(reused)))) }
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

/// A fragment as a rank file holds it.
struct StoredFragment: Sendable {
    /// Its name in the file's safetensors header.
    var key: String
    /// The fully-qualified name of the whole tensor.
    var name: String
    var scalarType: ScalarType
    var globalShape: Shape
    var region: Region
    var codec: ChunkCodec
    /// Where its stored bytes are, from the start of the file's data.
    var byteRange: Range<Int>
    var chunks: [StoredChunk]

    /// The bytes of the fragment itself.
    var byteCount: Int { scalarType.byteCount(elementCount: region.elementCount) ?? 0 }
}

/// A run of a fragment's bytes with a checksum of its own.
struct StoredChunk: Sendable, Hashable {
    /// Where its stored bytes begin, from the start of the file's data.
    var offset: Int
    /// How many bytes are stored; fewer than the chunk has when it is compressed.
    var byteCount: Int
    /// CRC-32C of the stored bytes.
    var checksum: UInt32
}

extension RankFileMetadata {
    /// Reads a rank file's metadata and the fragments that it describes.
    ///
    /// - Throws: ``CairnError/Code/malformed`` where the entries and the header contradict each other,
    ///   ``CairnError/Code/unsupported`` for a newer version or an unknown codec.
    init(reading header: SafeTensorsHeader) throws(CairnError) {
        var entries: [String: String] = [:]
        for entry in header.metadata { entries[entry.key] = entry.value }
        guard let version = entries[Self.versionKey] else {
            throw CairnError(.malformed, "this safetensors file is not a rank file of a Cairn checkpoint")
        }
        guard version == "\(Manifest.formatVersion)" else {
            throw CairnError(
                .unsupported, "the rank file has another format version",
                .init(expected: "\(Manifest.formatVersion)", found: version, advice: "read it with a newer Cairn"))
        }
        func entry(_ key: String) throws(CairnError) -> String {
            guard let value = entries[key] else { throw CairnError(.malformed, "the header lacks \(key)") }
            return value
        }
        func integer(_ key: String) throws(CairnError) -> Int {
            let value = try entry(key)
            guard let number = Int(value), number >= 0, "\(number)" == value else {
                throw CairnError(.malformed, "\(key) is not a count", .init(found: value))
            }
            return number
        }
        saveID = try Manifest.saveID(entry("cairn.save_id"))
        step = try integer("cairn.step")
        rank = try integer("cairn.rank")
        rankCount = try integer("cairn.ranks")
        chunkByteCount = try integer("cairn.chunk_bytes")
        guard Self.isAllowed(chunkByteCount: chunkByteCount) else {
            throw CairnError(
                .malformed, "the chunk size is not allowed",
                .init(expected: "a power of two from 4096 to 67108864", found: "\(chunkByteCount)"))
        }
        values = try Self.namedValues(Self.json(entry("cairn.values"), "cairn.values"))
        state = entries["cairn.state"]
        if let earlier = entries[Self.earlierKey] {
            reused = try ReusedFragments.parse(Self.json(earlier, Self.earlierKey))
        }
    }

    /// The fragments of a rank file, in the order of the file.
    func fragments(_ header: SafeTensorsHeader) throws(CairnError) -> [StoredFragment] {
        func entry(_ key: String) throws(CairnError) -> String {
            guard let value = header.metadata.first(where: { $0.key == key })?.value else {
                throw CairnError(.malformed, "the header lacks \(key)")
            }
            return value
        }
        let described: JSONObject
        do {
            described = try Self.json(entry("cairn.fragments"), "cairn.fragments").asObject()
        } catch let error as JSONError {
            throw Self.unreadable(error, "cairn.fragments")
        } catch let error as CairnError {
            throw error
        } catch {
            throw CairnError(.malformed, "the fragments cannot be read", cause: error)
        }
        var table = ChunkTable(bytes: try Base64.decode(entry("cairn.chunks")))
        var fragments: [StoredFragment] = []
        for stored in header.entries {
            do throws(CairnError) {
                var fragment = try Self.fragment(stored, described[stored.name])
                fragment.chunks = try table.next(for: fragment, chunkByteCount: chunkByteCount)
                fragments.append(fragment)
            } catch {
                throw error.adding(.init(tensor: stored.name))
            }
        }
        guard table.isEmpty else { throw CairnError(.malformed, "the chunk table is longer than the chunks are") }
        let keys = Set(header.entries.map { ExactString($0.name) })
        for member in described.members where !keys.contains(ExactString(member.key)) {
            throw CairnError(.malformed, "a fragment is described but not stored", .init(tensor: member.key))
        }
        return fragments
    }

    private static func fragment(
        _ stored: SafeTensorsHeader.Entry, _ described: JSONValue?
    ) throws(CairnError) -> StoredFragment {
        do {
            let object = try described?.asObject() ?? JSONObject()
            func extents(_ key: String) throws -> [Int]? { try object[key]?.asArray().map { try $0.asInteger() } }
            let codecName = try object["codec"]?.asString() ?? ChunkCodec.raw.rawValue
            guard let codec = ChunkCodec(rawValue: codecName) else {
                throw CairnError(
                    .unsupported, "a fragment has an unknown codec",
                    .init(found: codecName, advice: "read it with a newer Cairn"))
            }
            var scalarType = stored.scalarType
            var extent = stored.shape
            if codec != .raw {
                let spelling = try object.string("dtype")
                guard let type = ScalarType(rawValue: spelling) else {
                    throw CairnError(.unsupported, "a scalar type is unknown", .init(found: spelling))
                }
                scalarType = type
                extent = try Shape(checking: extents("extent") ?? [])
            }
            let globalShape = try extents("shape").map { try Shape(checking: $0) } ?? extent
            let region = try Region(
                offsets: extents("offset") ?? [Int](repeating: 0, count: extent.dimensionCount), shape: extent)
            guard region.isInside(globalShape),
                scalarType.byteCount(elementCount: globalShape.elementCount) != nil,
                scalarType.byteCount(elementCount: extent.elementCount) != nil
            else {
                throw CairnError(
                    .malformed, "a fragment lies outside its tensor",
                    .init(expected: "inside \(globalShape)", found: "\(region)"))
            }
            return StoredFragment(
                key: stored.name, name: try object["name"]?.asString() ?? stored.name, scalarType: scalarType,
                globalShape: globalShape, region: region, codec: codec, byteRange: stored.byteRange, chunks: [])
        } catch let error as JSONError {
            throw Self.unreadable(error, "cairn.fragments")
        } catch let error as CairnError {
            throw error
        } catch {
            throw CairnError(.malformed, "a fragment cannot be read", cause: error)
        }
    }

    static func json(_ text: String, _ what: String) throws(CairnError) -> JSONValue {
        do { return try JSONValue(parsing: text) } catch { throw unreadable(error, what) }
    }

    /// Leaves the file and the offset to the caller: those of the text within the header would mislead.
    private static func unreadable(_ error: JSONError, _ what: String) -> CairnError {
        CairnError(.malformed, "\(what) of the header cannot be read: \(error)")
    }

    /// A list of `[name, value]` pairs.
    static func namedValues(_ json: JSONValue) throws(CairnError) -> [NamedValue] {
        guard case .array(let pairs) = json else { throw CairnError(.malformed, "the values are not a list") }
        var values: [NamedValue] = []
        for pair in pairs {
            guard case .array(let parts) = pair, parts.count == 2, case .string(let name) = parts[0] else {
                throw CairnError(.malformed, "a value is not a pair of name and value")
            }
            values.append(NamedValue(name: name, value: try ValueCoding.value(parts[1])))
        }
        return values
    }
}

/// Takes the packed chunk table apart, fragment by fragment.
private struct ChunkTable {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var isEmpty: Bool { position == bytes.count }

    mutating func next(
        for fragment: StoredFragment, chunkByteCount: Int
    ) throws(CairnError) -> [StoredChunk] {
        let total = fragment.byteCount
        let count = total.dividedRoundingUp(by: chunkByteCount)
        let width = fragment.codec == .raw ? 4 : 8
        guard count <= (bytes.count - position) / width else {
            throw CairnError(.malformed, "the chunk table is too short", .init(expected: "\(count) more chunks"))
        }
        var chunks: [StoredChunk] = []
        chunks.reserveCapacity(count)
        var offset = fragment.byteRange.lowerBound
        for index in 0..<count {
            let plain = min(chunkByteCount, total - index * chunkByteCount)
            let stored = fragment.codec == .raw ? plain : Int(word())
            // A zstd block has at least 4 bytes and expands to at most 128 KiB (RFC 8878, 3.1.1.2): a larger claim is a
            // lie, and memory would be taken for it.
            guard stored > 0, stored <= plain, plain / stored <= 32_768,
                stored <= fragment.byteRange.upperBound - offset
            else {
                throw CairnError(.malformed, "a chunk's stored length is impossible", .init(found: "\(stored) bytes"))
            }
            chunks.append(StoredChunk(offset: offset, byteCount: stored, checksum: word()))
            offset += stored
        }
        guard offset == fragment.byteRange.upperBound else {
            throw CairnError(
                .malformed, "the chunks do not fill the stored bytes",
                .init(expected: "\(fragment.byteRange.count) bytes", found: "\(offset - fragment.byteRange.lowerBound)"))
        }
        return chunks
    }

    private mutating func word() -> UInt32 {
        defer { position += 4 }
        return bytes.littleEndian(UInt32.self, at: position)
    }
}
