import CairnBase
import CairnStorage

/// What keeps files that a save in progress refers to: `rank-00000-8c1f3e0d5a7b9246.pin` in the folder of its step.
///
/// A save publishes its pin first and looks whether the checkpoint that it takes the references from is still there afterwards.
/// Whoever deletes files removes manifests first and looks for pins afterwards. So one of the two sees the other.
struct SavePin: Sendable {
    static let schema = "cairn-pin/1"
    private static let maximumByteCount = 64 << 20

    /// The keys of the files that are kept.
    var keys: [String]

    /// Publishes the pin of a rank of a save.
    func publish(_ storage: any Storage, prefix: String, rank: Int, saveID: SaveID) throws(CairnError) {
        let json: JSONValue = .object(["schema": .string(Self.schema), "keys": .array(keys.map { .string($0) })])
        try storage.publish(Array(text(json).utf8), as: Self.key(prefix: prefix, rank: rank, saveID: saveID))
    }

    /// The pin at a key.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when it has gone; ``CairnError/Code/malformed`` for what is none.
    init(_ storage: any Storage, key: String) throws(CairnError) {
        let bytes = try storage.readAll(key, limit: Self.maximumByteCount)
        do {
            let object = try JSONValue(parsing: bytes, maximumDepth: 4).asObject()
            guard try object.string("schema") == Self.schema else {
                throw CairnError(.unsupported, "a pin is of another version", .init(file: storage.location(of: key)))
            }
            keys = try object.array("keys").map { try $0.asString() }
        } catch let error as CairnError {
            throw error
        } catch {
            throw CairnError(.malformed, "a pin cannot be read", .init(file: storage.location(of: key)), cause: error)
        }
    }

    init(keys: [String]) { self.keys = keys }

    static func key(prefix: String, rank: Int, saveID: SaveID) -> String {
        prefix + RankFileName.makePin(rank: rank, saveID: saveID)
    }
}
