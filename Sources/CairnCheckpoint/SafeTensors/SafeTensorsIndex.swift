import CairnBase
import CairnStorage
import CairnTensor

/// The file that says which shard of a model holds which tensor: `model.safetensors.index.json`.
///
/// Source: `huggingface_hub.save_torch_state_dict`. The sizes in it are not used: they often are wrong.
struct SafeTensorsIndex {
    /// Far more than any index needs.
    private static let greatestByteCount = 256 << 20

    /// Each tensor's shard, as a path beside the index.
    var shards: [(tensor: String, file: String)]
    /// What else the writer noted.
    var metadata: [NamedValue]

    /// Reads and checks an index.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for anything that is not an index, or names a shard elsewhere.
    init(reading key: String, from storage: any Storage) throws(CairnError) {
        let bytes = try storage.readAll(key, limit: Self.greatestByteCount)
        do throws(JSONError) {
            let root = try JSONValue(parsing: bytes).asObject()
            let map = try root.object("weight_map")
            shards = []
            for member in map.members { shards.append((member.key, try member.value.asString())) }
            metadata = []
            if let notes = root["metadata"], notes != .null {
                for member in try notes.asObject().members {
                    metadata.append(NamedValue(name: member.key, value: Value(plainJSON: member.value)))
                }
            }
        } catch {
            throw error.cairnError(file: key)
        }
        for shard in shards {
            do throws(CairnError) {
                try StorageKey.validate(shard.file)
            } catch {
                throw CairnError(
                    .malformed, "the index names a file that is not below it",
                    .init(
                        file: key, tensor: shard.tensor, found: shard.file.debugDescription,
                        advice: "do not trust this checkpoint"))
            }
        }
    }

    /// The text of an index.
    static func serialized(_ shards: [(tensor: String, file: String)], totalByteCount: Int) -> [UInt8] {
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 0))
        writer.beginObject()
        writer.key("metadata")
        writer.beginObject()
        writer.key("total_size")
        writer.write(totalByteCount)
        writer.endObject()
        writer.key("weight_map")
        writer.beginObject()
        for shard in shards.sorted(by: { ExactString($0.tensor) < ExactString($1.tensor) }) {
            writer.key(shard.tensor)
            writer.write(shard.file)
        }
        writer.endObject()
        writer.endObject()
        return writer.finish() + [UInt8(ascii: "\n")]
    }
}

extension Value {
    /// JSON that others wrote, as it reads.
    init(plainJSON json: JSONValue) {
        switch json {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .integer(let value): self = .integer(value)
        case .unsigned(let value): self = .unsigned(value)
        case .double(let value): self = .double(value)
        case .string(let value): self = .string(value)
        case .array(let elements): self = .list(elements.map(Value.init(plainJSON:)))
        case .object(let object):
            let pairs = object.members.map { ($0.key, Value(plainJSON: $0.value)) }
            self = .dictionary(Dictionary(pairs, uniquingKeysWith: { $1 }))
        }
    }
}
