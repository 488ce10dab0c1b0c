import CairnBase
import CairnDigest
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Files that other software wrote, and what it says of them.
enum Fixture {
    static let root = Repository.fixture("hdf5")

    static func path(_ name: String) -> String { root + "/" + name }

    static func bytes(_ name: String) throws -> [UInt8] { try LocalStorage(root: root).readAll(name) }

    /// What a truth says of each file in a folder.
    static func truth(_ folder: String) throws -> [(file: String, truth: JSONObject)] {
        let document = try JSONValue(parsing: bytes(folder + "/truth/truth.json")).asObject()
        return try document.object("files").members.map { (folder + "/" + $0.key, try $0.value.asObject()) }
    }

    /// Compares the tensors of a digest with a truth; those of `others` may be there too.
    static func check(_ digest: CheckpointDigest, _ truth: JSONObject, others: Set<String> = [], _ name: String) throws {
        var expected: [String: JSONObject] = [:]
        for element in try truth.array("tensors") {
            let tensor = try element.asObject()
            expected[try tensor.string("fqn")] = tensor
        }
        #expect(Set(digest.tensors.map(\.name)).subtracting(others) == Set(expected.keys), "\(name)")
        for tensor in digest.tensors where !others.contains(tensor.name) {
            let truth = try #require(expected[tensor.name], "\(name) \(tensor.name)")
            #expect(try tensor.scalarType.rawValue == truth.string("dtype"), "\(name) \(tensor.name)")
            #expect(
                try tensor.shape.extents == truth.array("shape").map { try $0.asInteger() }, "\(name) \(tensor.name)")
            #expect(try tensor.sha256 == truth.string("sha256"), "\(name) \(tensor.name)")
        }
    }

    /// The leaves that a truth's values are, by their path with slashes.
    static func leaves(_ truth: JSONObject) throws -> [String: Value] {
        var leaves: [String: Value] = [:]
        for element in try truth.array("values") {
            let value = try element.asObject()
            var path = try value.string("path")
            if let attribute = try value["attribute"]?.asString() { path += (path.isEmpty ? "" : "/") + attribute }
            guard let json = value["v"] else { continue }
            if case .array(let elements) = json {
                for (index, element) in elements.enumerated() { leaves["\(path)/\(index)"] = leaf(element) }
            } else {
                leaves[path] = leaf(json)
            }
        }
        return leaves
    }

    private static func leaf(_ json: JSONValue) -> Value {
        switch json {
        case .null: .null
        case .bool(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .double(let value): .double(value)
        case .string(let text): .string(text)
        default: .null
        }
    }

    /// The same of a digest.
    static func leaves(_ digest: CheckpointDigest) -> [String: Value] {
        var leaves: [String: Value] = [:]
        for leaf in digest.objects {
            let path = leaf.path.map { component -> String in
                switch component {
                case .string(let key): key
                case .integer(let index): String(index)
                default: ""
                }
            }
            leaves[path.joined(separator: "/")] = leaf.value
        }
        return leaves
    }
}
