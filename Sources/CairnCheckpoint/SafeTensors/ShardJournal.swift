import CairnBase
import CairnStorage

/// What an interrupted conversion into several files has finished, beside them: `model.conversion.json`.
///
/// A conversion that is the same, which its identity says, continues after the files that still are what was written.
struct ShardJournal {
    /// A file that is whole.
    struct Shard: Equatable {
        /// The checksum of its header.
        var header: UInt32
        /// The checksums of its tensors, in the order in which they were written.
        var tensors: [UInt32]
    }

    static let fileExtension = ".conversion.json"
    private static let schema = "cairn-conversion/1"
    private static let greatestByteCount = 64 << 20

    /// What tells conversions apart.
    var identity: String
    /// The finished files, the first ones of the checkpoint.
    var shards: [Shard] = []

    init(identity: String) { self.identity = identity }

    /// The journal at a key; `nil` where there is none that can be understood.
    init?(reading key: String, from storage: any Storage) throws(CairnError) {
        guard try storage.list(key).contains(where: { ExactString($0.key) == ExactString(key) }) else { return nil }
        let bytes = try storage.readAll(key, limit: Self.greatestByteCount)
        guard let read = Self.parse(bytes) else { return nil }
        self = read
    }

    private static func parse(_ bytes: [UInt8]) -> ShardJournal? {
        do throws(JSONError) {
            let root = try JSONValue(parsing: bytes).asObject()
            guard try root.string("schema") == schema else { return nil }
            var journal = ShardJournal(identity: try root.string("identity"))
            for element in try root.array("shards") {
                let shard = try element.asObject()
                var sums: [UInt32] = []
                for sum in try shard.array("tensors") {
                    guard let sum = UInt32(exactly: try sum.asInteger()) else { return nil }
                    sums.append(sum)
                }
                guard let header = UInt32(exactly: try shard.integer("header")) else { return nil }
                journal.shards.append(Shard(header: header, tensors: sums))
            }
            return journal
        } catch {
            return nil
        }
    }

    var serialized: [UInt8] {
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 0))
        writer.beginObject()
        writer.key("schema")
        writer.write(Self.schema)
        writer.key("identity")
        writer.write(identity)
        writer.key("shards")
        writer.beginArray()
        for shard in shards {
            writer.beginObject()
            writer.key("header")
            writer.write(Int(shard.header))
            writer.key("tensors")
            writer.beginArray()
            for sum in shard.tensors { writer.write(Int(sum)) }
            writer.endArray()
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return writer.finish() + [UInt8(ascii: "\n")]
    }
}
