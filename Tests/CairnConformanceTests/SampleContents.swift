import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting

/// Every kind of value, and what is odd of each kind.
enum SampleValues {
    static let all: [(name: String, value: Value)] = [
        ("null", .null), ("true", true), ("false", false), ("least", .integer(.min)), ("greatest", .integer(.max)),
        ("unsigned", .unsigned(.max)), ("small unsigned", .unsigned(7)), ("double", 0.1),
        ("negative zero", .double(-0.0)), ("infinity", .double(-.infinity)),
        ("payload", .double(Double(bitPattern: 0x7ff8_0000_0000_0001))), ("text", "größe 重み 🚀 \"\\"), ("empty text", ""),
        ("nul", "a\u{0}b"), ("last nul", "a\u{0}"), ("two spellings", ["é", "e\u{301}"]), ("bytes", .bytes([0, 255, 10])),
        ("empty bytes", .bytes([])), ("empty list", []), ("numbers", [1, 2, 3]), ("doubles", [1.5, -0.5]),
        ("flags", [true, false]),
        ("texts", ["a", "longer"]), ("mixed list", [1, 2.5, "x", .null, true]), ("nested list", [[1, 2], [3, [4]]]),
        ("empty dictionary", [:]), ("dictionary", ["a": 1, "b": ["c": 2.5, "d": "e"]]),
        ("odd keys", ["": 1, "a/b": 2, "c.d": 3, "$": 4]),
        ("digits", ["0": 1, "1": 2]),
    ]

    static func value(_ name: String) -> Value? { all.first { $0.name == name }?.value }
}

/// Names of tensors that something may take apart, cut off, fold or refuse.
enum OddNames {
    /// As "é", in two characters.
    static let otherEncoding = "e\u{301}"

    static let all: [String] = [
        "", " ", ".", "..", "../up", "/absolute", "a/b", "a//b", "a/", "a.b", ".hidden", "a..b",
        "trailing.", "with space", "quote\"'", "back\\slash",
        "line\nbreak", "tab\t", "nul\u{0}inside", "control\u{1}", "delete\u{7f}", "é", otherEncoding, "🚀", "重み",
        "\u{FEFF}mark", "\u{202E}turned",
        "__metadata__", "0", "-1", "%", "*", "?", "[a]", "{}", "$1", "NaN", "null", "CON", "a:b", "x.npy",
        "data.pkl", String(repeating: "long", count: 1000),
    ]
}

extension WritableFormat {
    /// A random state all of which comes back: the types that the format claims, tensors without elements and without
    /// dimensions, a tie, and values.
    func randomState(seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        var checkpoint = MemoryCheckpoint()
        let types = scalarTypes.sorted { $0.rawValue < $1.rawValue }
        let count = min(greatestTensorCount, Int.random(in: 4...9, using: &generator))
        for index in 0..<count {
            let type = types.randomElement(using: &generator) ?? .f32
            var extents = (0..<Int.random(in: 1...4, using: &generator)).map { _ in Int.random(in: 1...5, using: &generator) }
            switch index {
            case 1: extents = type.isPacked ? [0, 8] : []
            case 2: extents = [3, 0]
            default: if type.isPacked { extents.append(8) }
            }
            checkpoint.add(tensorName("model.\(index)"), try .random(type, Shape(extents), using: &generator))
        }
        if keepsTies, let kept = checkpoint.tensors.last {
            checkpoint.add(tensorName("tied"), try checkpoint.tensor(kept.name), tiedTo: kept.name)
        }
        for sample in SampleValues.all where valueFates[sample.name] == nil && Bool.random(using: &generator) {
            checkpoint.values.append(NamedValue(name: sample.name, value: sample.value))
        }
        return checkpoint
    }

    /// The files of a checkpoint.
    func files(of checkpoint: any CheckpointReader) throws -> MemoryStorage {
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: checkpoint, to: makeWriter(storage, false))
        return storage
    }
}

extension Storage {
    /// Every object by its key.
    func contents() throws -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for entry in try list("") { contents[entry.key] = try readAll(entry.key) }
        return contents
    }
}

/// All that a reader has, in memory: what must not change.
struct ReadContents: Equatable {
    var tensors: [TensorDescription]
    var bytes: [Tensor]
    var values: [NamedValue]

    init(_ reader: any CheckpointReader) throws {
        tensors = reader.tensors
        bytes = try reader.tensors.map { try reader.tensor($0.name) }
        values = reader.values
    }
}
