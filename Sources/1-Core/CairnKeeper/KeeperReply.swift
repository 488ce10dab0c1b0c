package import CairnBase
package import CairnStorage

/// What a keeper answers: one message, a JSON object.
package enum KeeperReply: Equatable {
    case done
    /// The number of the writer; whether the memory holds bytes of an older object.
    case created(writer: Int, capacity: Int, isRecycled: Bool)
    case opened(reader: Int, byteCount: Int)
    /// Another host has it: it is read with ``KeeperRequest/read(reader:offset:count:)``.
    case openedElsewhere(reader: Int, byteCount: Int)
    case listed([StorageEntry], isComplete: Bool)
    case status(JSONObject)
    case failed(CairnError)

    package var message: [UInt8] {
        let object: JSONObject =
            switch self {
            case .done: ["reply": .string("done")]
            case .created(let writer, let capacity, let isRecycled):
                [
                    "reply": .string("created"), "writer": .integer(Int64(writer)), "capacity": .integer(Int64(capacity)),
                    "recycled": .bool(isRecycled),
                ]
            case .opened(let reader, let byteCount):
                ["reply": .string("opened"), "reader": .integer(Int64(reader)), "bytes": .integer(Int64(byteCount))]
            case .openedElsewhere(let reader, let byteCount):
                [
                    "reply": .string("opened-elsewhere"), "reader": .integer(Int64(reader)),
                    "bytes": .integer(Int64(byteCount)),
                ]
            case .listed(let entries, let isComplete):
                [
                    "reply": .string("listed"), "complete": .bool(isComplete),
                    "entries": .array(
                        entries.map {
                            .array([.string($0.key), .integer(Int64($0.byteCount)), .integer($0.modified)])
                        }),
                ]
            case .status(let status): ["reply": .string("status"), "status": .object(status)]
            case .failed(let error):
                [
                    "reply": .string("failed"), "code": .string(error.code.description), "message": .string(error.message),
                    "file": error.context.file.map { .string($0) } ?? .null,
                    "expected": error.context.expected.map { .string($0) } ?? .null,
                    "found": error.context.found.map { .string($0) } ?? .null,
                    "advice": error.context.advice.map { .string($0) } ?? .null,
                ]
            }
        return KeeperMessage.bytes(of: object)
    }

    /// Reads an answer; throws `.malformed` for what is none.
    package init(_ message: [UInt8]) throws(CairnError) {
        do throws(JSONError) {
            self = try Self.parse(JSONValue(parsing: message, maximumDepth: 8).asObject())
        } catch {
            throw CairnError(.malformed, "an answer that no keeper gives: \(error.message)")
        }
    }

    private static func parse(_ object: JSONObject) throws(JSONError) -> KeeperReply {
        switch try object.string("reply") {
        case "done": return .done
        case "created":
            return .created(
                writer: try object.integer("writer"), capacity: try object.integer("capacity"),
                isRecycled: try object.bool("recycled"))
        case "opened": return .opened(reader: try object.integer("reader"), byteCount: try object.integer("bytes"))
        case "opened-elsewhere":
            return .openedElsewhere(reader: try object.integer("reader"), byteCount: try object.integer("bytes"))
        case "listed":
            var entries: [StorageEntry] = []
            for entry in try object.array("entries") {
                let parts = try entry.asArray()
                guard parts.count == 3 else { throw JSONError("an entry of a listing has three parts") }
                entries.append(
                    StorageEntry(
                        key: try parts[0].asString(), byteCount: try parts[1].asInteger(),
                        modified: Int64(try parts[2].asInteger())))
            }
            return .listed(entries, isComplete: try object.bool("complete"))
        case "status": return .status(try object.object("status"))
        case "failed":
            func text(_ key: String) throws(JSONError) -> String? {
                guard let value = object[key], value != .null else { return nil }
                return try value.asString()
            }
            return .failed(
                CairnError(
                    CairnError.Code(try object.string("code")) ?? .inputOutput, try object.string("message"),
                    .init(
                        file: try text("file"), expected: try text("expected"), found: try text("found"),
                        advice: try text("advice"))))
        case let other: throw JSONError("there is no answer \(other.debugDescription)")
        }
    }

    package static func == (one: KeeperReply, other: KeeperReply) -> Bool { one.message == other.message }
}

/// What requests and answers share.
package enum KeeperMessage {
    package static func bytes(of object: JSONObject) -> [UInt8] {
        var writer = JSONWriter()
        // Only a number that is none could not be written, and no message has doubles.
        try? writer.write(.object(object))
        return writer.finish()
    }
}
