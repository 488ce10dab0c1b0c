import CairnBase
import CairnStorage
import CairnTensor

/// Which tensor goes into which file of a safetensors checkpoint, and where.
package struct SafeTensorsPlan {
    /// Where the bytes of a tensor go.
    struct StoredRange {
        var name: String
        var file: Int
        /// From the start of the file's data, in bytes.
        var byteRange: Range<Int>
    }

    /// The places in the order in which the tensors come.
    var ranges: [StoredRange] = []
    /// The tensors of each file in the order of the file; at least one file.
    var files: [[SafeTensorsHeader.Entry]] = []

    /// Fills files one after the other as the tensors come, each up to `maximumByteCount` of data where a tensor fits,
    /// so that one file is complete before the next begins.
    ///
    /// Within a file the tensors stand as the format's own library puts them: the types in descending order, so that
    /// every tensor is aligned, and then by name.
    init(_ tensors: [TensorDescription], maximumByteCount: Int?) throws(CairnError) {
        var members: [[Int]] = [[]]
        var byteCount = 0
        for (index, tensor) in tensors.enumerated() {
            let size: Int
            do throws(CairnError) {
                size = try Tensor.byteCount(tensor.scalarType, tensor.shape)
            } catch {
                throw error.adding(.init(tensor: tensor.name))
            }
            guard let sum = byteCount.adding(checked: size) else {
                throw CairnError(.invalidArgument, "the tensors together are too large", .init(tensor: tensor.name))
            }
            if let maximumByteCount, sum > maximumByteCount, byteCount > 0 {
                members.append([])
                byteCount = size
            } else {
                byteCount = sum
            }
            members[members.count - 1].append(index)
        }
        ranges = tensors.map { StoredRange(name: $0.name, file: 0, byteRange: 0..<0) }
        for (file, indexes) in members.enumerated() {
            var entries: [SafeTensorsHeader.Entry] = []
            var offset = 0
            for index in indexes.sorted(by: { Self.precedes(tensors[$0], tensors[$1]) }) {
                let tensor = tensors[index]
                let byteRange = offset..<offset + tensor.byteCount
                entries.append(
                    .init(name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape, byteRange: byteRange))
                ranges[index] = StoredRange(name: tensor.name, file: file, byteRange: byteRange)
                offset = byteRange.upperBound
            }
            files.append(entries)
        }
    }

    private static let order = Dictionary(
        uniqueKeysWithValues: ScalarType.allCases.enumerated().map { ($0.element, $0.offset) })

    private static func precedes(_ left: TensorDescription, _ right: TensorDescription) -> Bool {
        precedes((left.scalarType, left.name), (right.scalarType, right.name))
    }

    /// The order of tensors in a file.
    package static func precedes(_ left: SafeTensorsHeader.Entry, _ right: SafeTensorsHeader.Entry) -> Bool {
        precedes((left.scalarType, left.name), (right.scalarType, right.name))
    }

    private static func precedes(
        _ left: (type: ScalarType, name: String), _ right: (type: ScalarType, name: String)
    ) -> Bool {
        if left.type != right.type { return order[left.type, default: 0] > order[right.type, default: 0] }
        return ExactString(left.name) < ExactString(right.name)
    }
}

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
