import CairnBase
package import CairnCheckpoint
import CairnTensor

/// What a delta says beside the changed elements: every tensor of the result, what it needs of the base, and the values.
///
/// It is JSON, compressed as one zstd frame, and the second tensor of the file.
package struct DeltaContents: Sendable {
    /// What becomes of a tensor.
    package enum Change: Sendable, Equatable {
        /// The base's elements.
        case equal
        /// The base's elements with changes; the digest is of the base's.
        case changed(base: String)
        /// Elements that are all in the delta.
        case new
        /// Another name of a tensor.
        case tied(String)
    }

    /// A tensor of the result.
    package struct Entry: Sendable {
        package var description: TensorDescription
        package var change: Change
        /// SHA-256 of the result's elements; empty for a tied tensor.
        package var sha256 = ""
        /// Where its chunks are in the file's changes, and behind them the table of the chunks.
        package var bytes = 0..<0
        package var chunkCount = 0

        /// What the base's elements must be; `nil` where they are not needed.
        var baseDigest: String? {
            switch change {
            case .equal: sha256
            case .changed(let base): base
            case .new, .tied: nil
            }
        }
    }

    /// What a side of the delta was, for people.
    package struct Origin: Sendable, Equatable {
        package var source: String?
        package var step: Int?
        package var saveID: String?

        package init(source: String? = nil, step: Int? = nil, saveID: String? = nil) {
            self.source = source
            self.step = step
            self.saveID = saveID
        }
    }

    package var base = Origin()
    package var result = Origin()
    /// Sorted by the bytes of the names.
    package var tensors: [Entry] = []
    /// Tensors of the base of which nothing is taken.
    package var removed: [TensorDescription] = []
    /// The digests of the base's values by name, sorted.
    package var baseValues: [(name: String, sha256: String)] = []
    /// Values that are new or differ, sorted by name.
    package var setValues: [NamedValue] = []
    package var removedValues: [String] = []

    package init() {}
}

extension DeltaContents {
    static let schema = "cairn-delta-contents/1"

    func json() throws(CairnError) -> [UInt8] {
        var tensorList: [JSONValue] = []
        for entry in tensors { tensorList.append(.object(Self.object(entry))) }
        var digests = JSONObject()
        for value in baseValues { digests[value.name] = .string(value.sha256) }
        var values = JSONObject()
        for value in setValues { values[value.name] = try ValueCoding.json(value.value) }
        let document: JSONObject = [
            "schema": .string(Self.schema), "base": .object(Self.object(base)), "result": .object(Self.object(result)),
            "tensors": .array(tensorList),
            "removed": .array(removed.map { .object(Self.object($0)) }), "base_values": .object(digests),
            "values": .object(values), "removed_values": .array(removedValues.map { .string($0) }),
        ]
        return Array(try SafeTensorsNotes.text(document).utf8)
    }

    private static func object(_ origin: Origin) -> JSONObject {
        var object = JSONObject()
        object["source"] = origin.source.map { .string($0) }
        object["step"] = origin.step.map { .integer(Int64($0)) }
        object["save_id"] = origin.saveID.map { .string($0) }
        return object
    }

    private static func object(_ tensor: TensorDescription) -> JSONObject {
        [
            "name": .string(tensor.name), "dtype": .string(tensor.scalarType.rawValue),
            "shape": .array(tensor.shape.extents.map { .integer(Int64($0)) }),
        ]
    }

    private static func object(_ entry: Entry) -> JSONObject {
        var object = Self.object(entry.description)
        switch entry.change {
        case .equal: object["is"] = .string("equal")
        case .changed(let digest):
            object["is"] = .string("changed")
            object["base_sha256"] = .string(digest)
        case .new: object["is"] = .string("new")
        case .tied(let target):
            object["is"] = .string("tied")
            object["to"] = .string(target)
            return object
        }
        object["sha256"] = .string(entry.sha256)
        if entry.chunkCount > 0 {
            object["begin"] = .integer(Int64(entry.bytes.lowerBound))
            object["end"] = .integer(Int64(entry.bytes.upperBound))
            object["chunks"] = .integer(Int64(entry.chunkCount))
        }
        return object
    }
}
