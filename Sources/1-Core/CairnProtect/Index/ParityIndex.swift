package import CairnBase
import CairnCheckpoint

/// What every parity file of a set says of all of it: the files, their places in columns, and the checksum of every segment of
/// data and every block of parity.
package struct ParityIndex: Sendable {
    static let version = 1
    /// The greatest text that is read.
    static let greatestByteCount = 1 << 30
    /// The most memory that the blocks of one stripe take: more is not taken for a claim.
    static let greatestStripeByteCount = 256 << 20

    let layout: StripeLayout
    let parityCount: Int
    /// The save of a checkpoint of Cairn.
    let saveID: SaveID?
    /// By ``StripeLayout/Segment/index``.
    var dataChecksums: [UInt32]
    /// Of each parity file, by stripe.
    var parityChecksums: [[UInt32]]

    /// An index without checksums yet.
    init(layout: StripeLayout, parityCount: Int, saveID: SaveID?) {
        self.layout = layout
        self.parityCount = parityCount
        self.saveID = saveID
        dataChecksums = [UInt32](repeating: 0, count: layout.segmentCount)
        parityChecksums = Array(repeating: Array(repeating: 0, count: layout.stripeCount), count: parityCount)
    }

    /// The bytes of one parity file's blocks.
    package var parityByteCount: Int { layout.parityByteCount }
    var dataCount: Int { layout.columns.count }
    var rowCount: Int { dataCount + parityCount }

    // MARK: Text

    /// The text of the index. Its length does not depend on the checksums.
    func encoded() -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("cairn_parity")
        writer.write(Self.version)
        writer.key("producer")
        writer.write(Producer.name)
        writer.key("save_id")
        if let saveID { writer.write("\(saveID)") } else { writer.writeNull() }
        writer.key("block_bytes")
        writer.write(layout.blockByteCount)
        writer.key("files")
        writer.beginArray()
        for file in layout.files {
            writer.beginObject()
            writer.key("name")
            writer.write(file.name)
            writer.key("bytes")
            writer.write(file.byteCount)
            writer.endObject()
        }
        writer.endArray()
        writer.key("columns")
        writer.beginArray()
        for column in layout.columns {
            writer.beginArray()
            for piece in column {
                writer.beginArray()
                for number in [piece.file, piece.offset, piece.byteCount] { writer.write(number) }
                writer.endArray()
            }
            writer.endArray()
        }
        writer.endArray()
        writer.key("checksums")
        writer.beginObject()
        writer.key("data")
        writer.write(Self.text(dataChecksums))
        writer.key("parity")
        writer.beginArray()
        for checksums in parityChecksums { writer.write(Self.text(checksums)) }
        writer.endArray()
        writer.endObject()
        writer.endObject()
        return writer.finish()
    }

    private static func text(_ checksums: [UInt32]) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 * checksums.count)
        for checksum in checksums { bytes.append(littleEndian: checksum) }
        return Base64.encode(bytes)
    }

    /// Reads an index and checks all that it says.
    ///
    /// - Throws: ``CairnError/Code/malformed``, ``CairnError/Code/unsupported`` for another version.
    package init(parsing bytes: [UInt8], file: String) throws(CairnError) {
        let object: JSONObject
        let version: Int
        do throws(JSONError) {
            object = try JSONValue(parsing: bytes, maximumDepth: 8).asObject()
            version = try object.integer("cairn_parity")
        } catch {
            throw error.cairnError(file: file)
        }
        guard version == Self.version else {
            throw CairnError(
                .unsupported, "the parity is of another version",
                .init(file: file, expected: "version \(Self.version)", found: "\(version)"))
        }
        do throws(CairnError) {
            try self.init(object)
        } catch {
            throw error.adding(.init(file: file))
        }
    }

    private init(_ object: JSONObject) throws(CairnError) {
        let blockByteCount: Int
        var files: [StripeLayout.File] = []
        var columns: [[StripeLayout.Piece]] = []
        let data: String
        var parity: [String] = []
        let saveID: SaveID?
        do throws(JSONError) {
            blockByteCount = try object.integer("block_bytes")
            for value in try object.array("files") {
                let file = try value.asObject()
                files.append(.init(name: try file.string("name"), byteCount: try file.integer("bytes")))
            }
            for column in try object.array("columns") {
                var pieces: [StripeLayout.Piece] = []
                for piece in try column.asArray() {
                    let numbers = try piece.asArray()
                    guard numbers.count == 3 else { throw JSONError("a piece has other than three numbers") }
                    pieces.append(
                        .init(
                            file: try numbers[0].asInteger(), offset: try numbers[1].asInteger(),
                            byteCount: try numbers[2].asInteger()))
                }
                columns.append(pieces)
            }
            let checksums = try object.object("checksums")
            data = try checksums.string("data")
            for text in try checksums.array("parity") { parity.append(try text.asString()) }
            if case .null = try object.value("save_id") {
                saveID = nil
            } else {
                let text = try object.string("save_id")
                guard let id = SaveID(text) else { throw JSONError("the member \"save_id\" is none") }
                saveID = id
            }
        } catch {
            throw CairnError(.malformed, "the index of the parity: \(error.message)")
        }
        _ = try Self.code(dataCount: columns.count, parityCount: parity.count)
        layout = try StripeLayout(files: files, columns: columns, blockByteCount: blockByteCount)
        let rowCount = columns.count + parity.count
        guard rowCount * layout.bufferByteCount <= Self.greatestStripeByteCount else {
            throw CairnError(
                .malformed, "the blocks of a stripe are too large",
                .init(
                    expected: "\(Self.greatestStripeByteCount) bytes together",
                    found: "\(rowCount) of \(layout.bufferByteCount)"))
        }
        parityCount = parity.count
        self.saveID = saveID
        dataChecksums = try Self.checksums(data, count: layout.segmentCount)
        parityChecksums = []
        for text in parity { parityChecksums.append(try Self.checksums(text, count: layout.stripeCount)) }
    }

    /// - Throws: ``CairnError/Code/malformed`` for counts that there is no code for.
    private static func code(dataCount: Int, parityCount: Int) throws(CairnError) -> ErasureCode {
        do throws(CairnError) {
            return try ErasureCode(dataCount: dataCount, parityCount: parityCount)
        } catch {
            throw CairnError(.malformed, error.message, error.context)
        }
    }

    private static func checksums(_ text: String, count: Int) throws(CairnError) -> [UInt32] {
        // The text bounds the count before anything is made of it.
        guard count <= text.utf8.count else {
            throw CairnError(
                .malformed, "the index of the parity has too few checksums",
                .init(expected: "\(count)", found: "at most \(text.utf8.count / 4)"))
        }
        let bytes = try Base64.decode(text)
        guard bytes.count == 4 * count else {
            throw CairnError(
                .malformed, "the index of the parity has another number of checksums than its files need",
                .init(expected: "\(count)", found: "\(bytes.count / 4)"))
        }
        return (0..<count).map { bytes.littleEndian(UInt32.self, at: 4 * $0) }
    }
}
