import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct CheckpointDigestTests {
    private static let fixtures = Repository.fixture("safetensors")

    /// Compares a digest with the tensors that the writing software says it wrote.
    private func check(_ path: String, against truth: [JSONValue]) throws {
        let digest = try CheckpointDigest(of: SafeTensorsReader(path: Self.fixtures + "/" + path), bufferByteCount: 512)
        #expect(digest.tensors.count == truth.count, "\(path)")
        var expected: [ExactString: JSONObject] = [:]
        for element in truth {
            let tensor = try element.asObject()
            expected[ExactString(try tensor.string("fqn"))] = tensor
        }
        for tensor in digest.tensors {
            let truth = try #require(expected[ExactString(tensor.name)], "\(path) \(tensor.name)")
            var dtype = try truth.string("dtype")
            var shape = try truth.array("shape").map { try $0.asInteger() }
            if dtype == "F4_E2M1X2" {
                dtype = "F4"
                if let last = shape.popLast() { shape.append(last * 2) }
            }
            #expect(tensor.scalarType.rawValue == dtype, "\(path) \(tensor.name)")
            #expect(tensor.shape.extents == shape, "\(path) \(tensor.name)")
            #expect(try tensor.sha256 == truth.string("sha256"), "\(path) \(tensor.name)")
        }
        let names = digest.tensors.map { ExactString($0.name) }
        #expect(names == names.sorted())
        #expect(digest.objects.isEmpty)
    }

    private func truth(_ family: String) throws -> JSONObject {
        try JSONValue(
            parsing: LocalStorage(root: Self.fixtures).readAll(family + "/truth/truth.json")
        ).asObject()
    }

    @Test func filesThatOthersWroteHoldWhatTheySay() throws {
        for family in ["single", "dtypes"] {
            let files = try truth(family).object("files").members
            #expect(!files.isEmpty)
            for file in files {
                try check(family + "/" + file.key, against: try file.value.asObject().array("tensors"))
            }
        }
    }

    @Test func shardedCheckpointsThatOthersWroteHoldWhatTheySay() throws {
        try check("hf_sharded", against: try truth("hf_sharded").array("tensors"))
        try check("hf_sharded/model.safetensors.index.json", against: try truth("hf_sharded").array("tensors"))
        for model in try truth("transformers").object("models").members {
            try check("transformers/" + model.key, against: try model.value.asObject().array("tensors"))
        }
    }

    @Test func theHashIsSHA256() throws {
        // FIPS 180-2, appendix B.
        let bytes = Array("abc".utf8)
        #expect(
            Hexadecimal.encode(try SHA256.digest(of: bytes.span.bytes))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        var pieces = try SHA256()
        for byte in bytes {
            let one = [byte]
            try pieces.update(one.span.bytes)
        }
        let whole = try SHA256.digest(of: bytes.span.bytes)
        #expect(try pieces.finish() == whole)
    }

    @Test func theDocumentHasItsFields() throws {
        let storage = MemoryStorage()
        let writer = SafeTensorsWriter(storage: storage, key: "x")
        let tensors = [
            TensorDescription(name: "a", scalarType: .u8, shape: [1]),
            TensorDescription(name: "b", scalarType: .u8, shape: [1], tiedTo: "a"),
        ]
        let values = [
            NamedValue(name: "s", value: ["z": [1, .unsigned(2)], "a": .double(.infinity), "none": [:]]),
            NamedValue(name: "t", value: .bytes([1, 2, 3])),
        ]
        _ = try writer.begin(tensors: tensors, values: values)
        let bytes = [97] as [UInt8]
        try writer.append(bytes.span.bytes)
        try writer.finish()
        let digest = try CheckpointDigest(of: SafeTensorsReader(storage: storage, file: "x"))
        let json = String(decoding: try digest.json(), as: UTF8.self)
        let sha = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
        let expected = try JSONValue(
            parsing: """
                {"schema": "cairn-digest/1", "format": "safetensors", "tensors": [
                {"fqn": "a", "dtype": "U8", "shape": [1], "sha256": "\(sha)"},
                {"fqn": "b", "dtype": "U8", "shape": [1], "sha256": "\(sha)"}], "objects": [
                {"path": ["s", "a"], "value": {"$f64": "7ff0000000000000"}}, {"path": ["s", "z", 0], "value": 1},
                {"path": ["s", "z", 1], "value": 2}, {"path": ["t"], "value": {"$bytes": "AQID"}}]}
                """)
        #expect(try JSONValue(parsing: json) == expected, "\(json)")
    }
}
