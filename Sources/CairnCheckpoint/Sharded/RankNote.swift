package import CairnBase

/// What the ranks of a save tell each other at its end: a few hundred bytes of JSON.
package enum RankNote {
    /// A rank has written its file and made it durable; the digest is that of everything that ranks must agree on. The
    /// report, if there is one, tells how that went.
    case written(Manifest.File, digest: String, step: Int, report: JSONValue? = nil)
    /// The rank, or the commit, failed.
    case failed(CairnError)
    /// The checkpoint is there.
    case committed

    package func encoded() -> [UInt8] {
        let json: JSONValue
        switch self {
        case .written(let file, let digest, let step, let report):
            var object: JSONObject = ["file": file.json, "digest": .string(digest), "step": .integer(Int64(step))]
            object["account"] = report
            json = .object(object)
        case .failed(let error):
            var object: JSONObject = ["error": .string(error.code.description), "message": .string(error.message)]
            let context = error.context
            for (key, value) in [
                ("file", context.file), ("tensor", context.tensor), ("expected", context.expected),
                ("found", context.found), ("advice", context.advice), ("cause", error.cause.map { "\($0)" }),
            ] {
                if let value { _ = object.append(key, .string(value)) }
            }
            for (key, value) in [("offset", context.offset), ("rank", context.rank)] {
                if let value { _ = object.append(key, .integer(Int64(value))) }
            }
            json = .object(object)
        case .committed:
            json = .object(["committed": .bool(true)])
        }
        return Array(text(json).utf8)
    }

    /// - Throws: ``CairnError/Code/malformed`` for bytes that no rank of this version sends.
    package init(parsing bytes: [UInt8]) throws(CairnError) {
        do {
            let object = try JSONValue(parsing: bytes, maximumDepth: 4).asObject()
            if let code = try object["error"]?.asString() {
                let cause = try object["cause"]?.asString()
                self = .failed(CairnError(
                    CairnError.Code(code) ?? .inputOutput, try object.string("message"),
                    .init(
                        file: try object["file"]?.asString(), tensor: try object["tensor"]?.asString(),
                        offset: try object["offset"]?.asInteger(), rank: try object["rank"]?.asInteger(),
                        expected: try object["expected"]?.asString(), found: try object["found"]?.asString(),
                        advice: try object["advice"]?.asString()),
                    cause: cause.map(RemoteCause.init)))
            } else if object["committed"] != nil {
                self = .committed
            } else {
                self = .written(
                    try Manifest.File(object.object("file")), digest: try object.string("digest"),
                    step: try object.integer("step"), report: object["account"])
            }
        } catch {
            throw CairnError(.malformed, "a rank's report of its save cannot be read", cause: error)
        }
    }
}

/// The cause of an error of another rank, as that rank described it.
private struct RemoteCause: Error, CustomStringConvertible {
    var description: String
}
