import CairnBase
import CairnDigest
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Files that other software wrote, and what it says of them.
enum Fixture {
    private struct Leaf: Hashable {
        var path: [Value]
        var value: Value
    }

    static func path(_ name: String) -> String { Repository.fixture(name) }

    static func truth(_ folder: String) throws -> JSONObject {
        try JSONValue(parsing: LocalStorage(root: path(folder)).readAll("truth/truth.json")).asObject()
    }

    static func bytes(_ name: String) throws -> [UInt8] { try LocalStorage(root: path("")).readAll(name) }

    /// Compares a digest with the tensors and leaves of a truth.
    static func check(_ digest: CheckpointDigest, against truth: JSONObject, _ name: String) throws {
        var expected: [ExactString: JSONObject] = [:]
        for element in try truth.array("tensors") {
            let tensor = try element.asObject()
            expected[ExactString(try tensor.string("fqn"))] = tensor
        }
        #expect(digest.tensors.count == expected.count, "\(name)")
        for tensor in digest.tensors {
            let truth = try #require(expected[ExactString(tensor.name)], "\(name) \(tensor.name)")
            var dtype = try truth.string("dtype")
            var shape = try truth.array("shape").map { try $0.asInteger() }
            if dtype == "F4_E2M1X2" {
                dtype = "F4"
                shape = shape.dropLast() + [(shape.last ?? 1) * 2]
            }
            #expect(tensor.scalarType.rawValue == dtype, "\(name) \(tensor.name)")
            #expect(tensor.shape.extents == shape, "\(name) \(tensor.name)")
            #expect(try tensor.sha256 == truth.string("sha256"), "\(name) \(tensor.name)")
        }
        guard let objects = try truth["objects"]?.asArray() else { return }
        var leaves: Set<Leaf> = []
        for object in objects { leaves.formUnion(try self.leaves(object.asObject())) }
        let found = Set(digest.objects.map { Leaf(path: $0.path, value: $0.value) })
        #expect(found.count == digest.objects.count)
        for leaf in leaves.subtracting(found) { Issue.record("\(name) lacks \(leaf)") }
        for leaf in found.subtracting(leaves) { Issue.record("\(name) has also \(leaf)") }
    }

    /// What a leaf of a truth is in a digest: several where the value is a list.
    private static func leaves(_ object: JSONObject) throws -> [Leaf] {
        let path = try object.array("path").map { component -> Value in
            if case .string(let key) = component { return .string(key) }
            return .integer(Int64(try component.asInteger()))
        }
        let type = try object.string("t")
        let value: Value
        switch (type, object["v"]) {
        case ("bytes", _), ("bytearray", _): value = .bytes(try Base64.decode(object.string("b64")))
        case ("float", .string(let text)?): value = .double(try #require(Double(text)))
        case ("int", .string(let digits)?): value = Int64(digits).map { .integer($0) } ?? .string(digits)
        case ("complex", let parts?): value = .list(try parts.asArray().map { .double(try $0.asDouble()) })
        case (_, .array(let elements)?):
            return try elements.enumerated().map {
                Leaf(path: path + [.integer(Int64($0))], value: try scalar($1, type))
            }
        case (_, let json?): value = try scalar(json, type)
        case (_, nil): value = .null
        }
        guard case .list(let values) = value else { return [Leaf(path: path, value: value)] }
        return values.enumerated().map {
            Leaf(path: path + [.integer(Int64($0))], value: $1)
        }
    }

    private static func scalar(_ json: JSONValue, _ type: String) throws -> Value {
        switch json {
        case .null: return .null
        case .bool(let value): return .bool(value)
        case .string(let text): return .string(text)
        case .integer(let value) where !type.contains("float"): return .integer(value)
        default: return .double(try json.asDouble())
        }
    }
}
