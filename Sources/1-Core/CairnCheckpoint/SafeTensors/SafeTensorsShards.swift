import CairnBase
import CairnStorage
import CairnTensor

/// What is noted of files that an index names and that are not there, or not as they were written.
final class MissingShards {
    /// Whether there may be such.
    let isTolerated: Bool
    /// The tensors that the index places in them.
    private(set) var tensors: [String] = []

    init(isTolerated: Bool) { self.isTolerated = isTolerated }

    func add(_ tensor: String) { tensors.append(tensor) }
}

/// One open safetensors file of a checkpoint.
struct SafeTensorsShard {
    var key: String
    var file: any StorageFile
    var header: SafeTensorsHeader

    /// - Parameter index: The index that names the file; without the file the checkpoint is then incomplete.
    init(opening key: String, of storage: any Storage, namedBy index: String? = nil) throws(CairnError) {
        self.key = key
        do throws(CairnError) {
            file = try storage.open(key)
        } catch {
            guard let index, error.code == .notFound else { throw error }
            throw CairnError(
                .incomplete, "a file that the index names is missing", .init(file: key, expected: "as in \(index)"),
                cause: error)
        }
        header = try SafeTensorsHeader.read(from: file)
    }

    /// Throws unless the file holds the tensors that the index places in it and no others.
    func check(holdsJust names: Set<ExactString>, accordingTo index: String) throws(CairnError) {
        let held = Set(header.entries.map { ExactString($0.name) })
        if let missing = names.subtracting(held).min() {
            throw CairnError(
                .incomplete, "the index places a tensor in this file that is not there",
                .init(file: key, tensor: missing.string, expected: "as in \(index)"))
        }
        let extra = held.subtracting(names).sorted()
        guard extra.isEmpty else {
            let shown = extra.prefix(8).map { "\"\($0.string)\"" }.joined(separator: ", ")
            throw CairnError(
                .mismatch, "the file holds tensors that the index does not place in it",
                .init(
                    file: key, expected: "as in \(index)",
                    found: shown + (extra.count > 8 ? " and \(extra.count - 8) more" : ""),
                    advice: "open the file by itself, or correct the index"))
        }
    }
}

/// What the files of a checkpoint hold together.
struct SafeTensorsContents {
    var tensors: [(description: TensorDescription, stored: FileTensor)] = []
    var values: [NamedValue] = []
    private var texts: [NamedValue] = []
    private var ties: [(name: String, kept: String)] = []
    private var positions: [ExactString: Int] = [:]

    /// - Throws: ``CairnError/Code/mismatch`` when the file repeats a name.
    mutating func add(_ shard: SafeTensorsShard) throws(CairnError) {
        let header = shard.header
        positions.reserveCapacity(positions.count + header.entries.count)
        for entry in header.entries {
            guard positions.updateValue(tensors.count, forKey: ExactString(entry.name)) == nil else {
                throw CairnError(
                    .mismatch, "another file of the checkpoint holds a tensor of this name",
                    .init(file: shard.key, tensor: entry.name))
            }
            tensors.append(
                (
                    TensorDescription(name: entry.name, scalarType: entry.scalarType, shape: entry.shape),
                    FileTensor(
                        file: shard.file, byteOffset: header.dataStart + entry.byteRange.lowerBound,
                        scalarType: entry.scalarType, shape: entry.shape)
                ))
        }
        let notes = try SafeTensorsNotes(readingFrom: header, file: shard.key)
        values += notes.values
        ties += notes.ties
        for text in header.metadata where !SafeTensorsNotes.owns(text.key) {
            texts.append(NamedValue(name: text.key, value: .string(text.value)))
        }
    }

    /// Lists every tie as a tensor, once all files are added.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when a tied name is stored too or what it is tied to is not.
    mutating func addTies(source: String) throws(CairnError) {
        for tie in ties {
            guard let position = positions[ExactString(tie.kept)], tensors[position].description.tiedTo == nil else {
                throw CairnError(
                    .malformed, "the tensor that this one is tied to is not stored",
                    .init(file: source, tensor: tie.name, expected: tie.kept))
            }
            guard positions.updateValue(tensors.count, forKey: ExactString(tie.name)) == nil else {
                throw CairnError(.malformed, "a tied tensor is stored too", .init(file: source, tensor: tie.name))
            }
            var tied = tensors[position]
            tied.description.name = tie.name
            tied.description.tiedTo = tie.kept
            tensors.append(tied)
        }
        var names: Set<ExactString> = []
        for named in values where !names.insert(ExactString(named.name)).inserted {
            throw CairnError(.malformed, "two values have the name \"\(named.name)\"", .init(file: source))
        }
    }

    mutating func sort() {
        tensors.sort { ExactString($0.description.name) < ExactString($1.description.name) }
        values.sort { ExactString($0.name) < ExactString($1.name) }
    }

    /// The index's notes and the files' texts, each key once.
    func metadata(with notes: [NamedValue]) -> [NamedValue] {
        var names: Set<ExactString> = []
        let first = (notes + texts).filter { names.insert(ExactString($0.name)).inserted }
        return first.sorted { ExactString($0.name) < ExactString($1.name) }
    }
}

/// The name of one of several files of a model: `model-00001-of-00003.safetensors`.
package struct SafeTensorsShardName {
    /// What ends a file's name.
    package static let fileExtension = ".safetensors"
    /// What ends the name of the file that says which shard holds what.
    package static let indexExtension = ".safetensors.index.json"

    /// What stands before the numbers.
    package var stem: String
    /// The shard's number, from 1.
    var number: Int
    /// How many shards there are.
    var count: Int

    init(stem: String, number: Int, count: Int) {
        self.stem = stem
        self.number = number
        self.count = count
    }

    /// The parts of a file's name, `nil` if it is not a shard's.
    package init?(_ name: String) {
        guard name.hasSuffix(Self.fileExtension) else { return nil }
        let parts = name.dropLast(Self.fileExtension.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[parts.count - 2] == "of", let count = Self.number(parts[parts.count - 1]),
            let number = Self.number(parts[parts.count - 3]), (1...count).contains(number)
        else { return nil }
        self.init(stem: parts.dropLast(3).joined(separator: "-"), number: number, count: count)
    }

    /// The file's name.
    var name: String {
        "\(stem)-\(Self.digits(number))-of-\(Self.digits(count))\(Self.fileExtension)"
    }

    /// The same name for another shard of the same model.
    func sibling(_ number: Int) -> SafeTensorsShardName {
        SafeTensorsShardName(stem: stem, number: number, count: count)
    }

    private static func number(_ text: Substring) -> Int? {
        guard (5...9).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(text), number > 0
        else { return nil }
        return number
    }

    private static func digits(_ number: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 5 - text.utf8.count)) + text
    }
}

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
