package import CairnBase

/// What a process asks of a keeper: one message, a JSON object.
package enum KeeperRequest: Equatable {
    /// The first message of a connection: the job whose objects it is about.
    ///
    /// Observers change nothing and keep nothing alive. A user other than one's own can be named by the keeper's own user and
    /// by root.
    case hello(version: Int, job: String, isObserver: Bool, user: UInt32?)
    /// A new object, of so many bytes as far as is known; the answer brings its memory.
    case create(key: String, byteCount: Int)
    /// The object is complete and appears under its key.
    case finish(writer: Int, byteCount: Int)
    case discard(writer: Int)
    /// An object to read; the answer brings its memory.
    case open(key: String)
    /// Bytes of an object that another host has; the answer brings memory that holds them.
    case read(reader: Int, offset: Int, count: Int)
    /// The process has the object no longer open. It was never mapped.
    case release(reader: Int)
    /// The objects that begin with a prefix and come after a key.
    case list(prefix: String, after: String?)
    case delete(keys: [String])
    /// Everything of a job that nothing has open.
    case forget(job: String)
    case status

    package static let version = 1
    /// As many bytes are read of another host's object at once.
    package static let greatestRead = 16 << 20

    package var message: [UInt8] {
        let object: JSONObject =
            switch self {
            case .hello(let version, let job, let isObserver, let user):
                [
                    "op": .string("hello"), "version": .integer(Int64(version)), "job": .string(job),
                    "observer": .bool(isObserver),
                    "user": user.map { .integer(Int64($0)) } ?? .null,
                ]
            case .create(let key, let byteCount):
                ["op": .string("create"), "key": .string(key), "bytes": .integer(Int64(byteCount))]
            case .finish(let writer, let byteCount):
                ["op": .string("finish"), "writer": .integer(Int64(writer)), "bytes": .integer(Int64(byteCount))]
            case .discard(let writer): ["op": .string("discard"), "writer": .integer(Int64(writer))]
            case .open(let key): ["op": .string("open"), "key": .string(key)]
            case .read(let reader, let offset, let count):
                [
                    "op": .string("read"), "reader": .integer(Int64(reader)), "offset": .integer(Int64(offset)),
                    "count": .integer(Int64(count)),
                ]
            case .release(let reader): ["op": .string("release"), "reader": .integer(Int64(reader))]
            case .list(let prefix, let after):
                ["op": .string("list"), "prefix": .string(prefix), "after": after.map { .string($0) } ?? .null]
            case .delete(let keys): ["op": .string("delete"), "keys": .array(keys.map { .string($0) })]
            case .forget(let job): ["op": .string("forget"), "job": .string(job)]
            case .status: ["op": .string("status")]
            }
        return KeeperMessage.bytes(of: object)
    }

    /// Reads a request; throws `.malformed` for what is none.
    package init(_ message: [UInt8]) throws(CairnError) {
        do throws(JSONError) {
            self = try Self.parse(JSONValue(parsing: message, maximumDepth: 4).asObject())
        } catch {
            throw CairnError(.malformed, "a request that a keeper does not understand: \(error.message)")
        }
    }

    private static func parse(_ object: JSONObject) throws(JSONError) -> KeeperRequest {
        switch try object.string("op") {
        case "hello":
            var user: UInt32?
            if let value = object["user"], value != .null {
                user = UInt32(exactly: try value.asInteger())
                if user == nil { throw JSONError("the user is not a number of a user") }
            }
            return .hello(
                version: try object.integer("version"), job: try object.string("job"),
                isObserver: try object.bool("observer"), user: user)
        case "create": return .create(key: try object.string("key"), byteCount: try object.integer("bytes"))
        case "finish": return .finish(writer: try object.integer("writer"), byteCount: try object.integer("bytes"))
        case "discard": return .discard(writer: try object.integer("writer"))
        case "open": return .open(key: try object.string("key"))
        case "read":
            return .read(
                reader: try object.integer("reader"), offset: try object.integer("offset"), count: try object.integer("count"))
        case "release": return .release(reader: try object.integer("reader"))
        case "list":
            var after: String?
            if let value = object["after"], value != .null { after = try value.asString() }
            return .list(prefix: try object.string("prefix"), after: after)
        case "delete":
            var keys: [String] = []
            for key in try object.array("keys") { keys.append(try key.asString()) }
            return .delete(keys: keys)
        case "forget": return .forget(job: try object.string("job"))
        case "status": return .status
        case let other: throw JSONError("there is no operation \(other.debugDescription)")
        }
    }
}
