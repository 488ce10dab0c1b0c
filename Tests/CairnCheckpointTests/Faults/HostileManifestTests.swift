import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

/// A manifest's text, part by part, with a right checksum whatever it says.
struct ManifestText {
    static let file = #"{"name":"r0","rank":0,"bytes":4104,"header_bytes":4096,"header_crc32c":"00000000"}"#
    static let secondFile = #"{"name":"r1","rank":1,"bytes":4104,"header_bytes":4096,"header_crc32c":"00000000"}"#
    static let tensor = #"{"name":"w","dtype":"F32","shape":[2],"file":0}"#

    private var parts: [(key: String, json: String)] = [
        ("cairn", "1"), ("requires", "[]"), ("producer", #""test""#),
        ("save_id", "\"" + String(repeating: "0a", count: 16) + "\""),
        ("step", "1"), ("time", "1.5"), ("metrics", "{}"), ("files", "[\(file)]"), ("tensors", "[\(tensor)]"),
        ("ties", "[]"), ("values", "[]"),
    ]

    /// The text with one part replaced, added, or with `nil` left out.
    init(_ key: String? = nil, _ json: String? = nil) {
        guard let key else { return }
        set(key, json)
    }

    mutating func set(_ key: String, _ json: String?) {
        let index = parts.firstIndex { $0.key == key }
        switch (index, json) {
        case (let index?, let json?): parts[index].json = json
        case (let index?, nil): parts.remove(at: index)
        case (nil, let json?): parts.append((key, json))
        case (nil, nil): break
        }
    }

    var sealed: [UInt8] { Self.seal("{" + parts.map { "\"\($0.key)\":\($0.json)" }.joined(separator: ",\n")) }

    static func seal(_ body: String) -> [UInt8] {
        let bytes = Array(body.utf8)
        return bytes + Array(ManifestSeal.text(CRC32C.checksum(bytes.span.bytes)).utf8)
    }
}

/// Every rule that a manifest must follow, broken on purpose under a right checksum.
@Suite struct HostileManifestTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var key: String
        var json: String?
        var code: CairnError.Code
        var testDescription: String { "\(key): \((json ?? "missing").prefix(80)) is \(code)" }

        init(_ key: String, _ json: String?, _ code: CairnError.Code = .malformed) {
            self.key = key
            self.json = json
            self.code = code
        }
    }

    private static func tensor(_ members: String) -> String { "[{\"name\":\"w\",\(members)}]" }
    private static func file(_ members: String) -> String { "[{\(members)}]" }
    private static let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
    private static let sums = #""header_crc32c":"00000000""#

    static let general: [Case] = [
        Case("cairn", "2", .unsupported), Case("cairn", "0", .unsupported), Case("cairn", "-1", .unsupported),
        Case("cairn", #""1""#), Case("cairn", nil), Case("cairn", "9223372036854775808"), Case("cairn", "1e400"),
        Case("requires", #"["parity"]"#, .unsupported), Case("requires", "[1]"), Case("requires", nil),
        Case("producer", "5"), Case("producer", nil), Case("producer", "\"\u{1}\""),
        Case("save_id", #""00""#), Case("save_id", "\"" + String(repeating: "0A", count: 16) + "\""),
        Case("save_id", nil), Case("step", "-1"), Case("step", "1.5"), Case("step", "99999999999999999999"),
        Case("step", nil), Case("step", "null"),
        Case("time", "7"), Case("time", nil), Case("time", #"{"$f64":"zz"}"#),
        Case("time", #"{"$f64":"+ff8000000000000"}"#),
        Case("metrics", "[]"), Case("metrics", #"{"loss":1}"#), Case("metrics", #"{"loss":1.0,"loss":2.0}"#),
        Case("metrics", #"{"loss":"low"}"#), Case("metrics", nil),
        Case("lineage", "[]"), Case("lineage", "{}"), Case("lineage", #"{"operation":"a","parents":[5]}"#),
        Case("lineage", #"{"operation":"a","parents":[{"save_id":"x"}]}"#),
        Case("lineage", #"{"operation":"a","parents":[{"coefficient":1}]}"#),
        Case("values", #"[["a"]]"#), Case("values", #"[["a",1,2]]"#), Case("values", #"[[1,1]]"#), Case("values", nil),
        Case("values", #"[["b",1],["a",1]]"#), Case("values", #"[["a",1],["a",1]]"#), Case("values", #"[["w",1]]"#),
        Case("values", #"[["a",{"$new":"1"}]]"#, .unsupported), Case("values", #"[["a",{"$u64":"-1"}]]"#),
        Case("values", #"[["a",{"$bytes":"!"}]]"#), Case("values", #"[["a",{"$u64":"1","b":2}]]"#),
        Case("values", #"[["a",{"b":2,"b":3}]]"#), Case("values", "[[\"a\",\(deep)]]"),
        Case("values", "[[\"a\",18446744073709551616]]"),
        Case("ties", #"[["a","nothing"]]"#), Case("ties", #"[["w","w"]]"#), Case("ties", #"[["b","w"],["a","w"]]"#),
        Case("ties", #"[["a","w"],["a","w"]]"#), Case("ties", #"[["a","b"],["b","w"]]"#), Case("ties", #"[["a"]]"#),
        Case("ties", nil), Case("ties", #"[[1,2]]"#), Case("ties", deep),
    ]

    static let files: [Case] = [
        Case("files", nil), Case("files", "[5]"), Case("files", "[]"), Case("files", "{}"),
        Case("files", file(#""name":"","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"../x","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"..","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":".","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"/etc/passwd","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a\u0000b","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a\nb","rank":0,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":1,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":-1,"bytes":16,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":4,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":7,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":-8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":-16,"header_bytes":-8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":9223372036854775808,"header_bytes":8,\#(sums)"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":8,"header_crc32c":"0000000G""#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":8,"header_crc32c":"+0000000""#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":8,"header_crc32c":"ABCDEF00""#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,"header_bytes":8,"header_crc32c":0"#)),
        Case("files", file(#""name":"a","rank":0,"bytes":16,\#(sums)"#)),
        Case(
            "files",
            #"[{"name":"a","rank":0,"bytes":9223372036854775807,"header_bytes":8,\#(sums)},{"name":"b","rank":1,"#
                + #""bytes":9223372036854775807,"header_bytes":8,\#(sums)}]"#),
        Case("files", "[\(ManifestText.file),\(ManifestText.file)]"),
        Case("files", "[\(ManifestText.secondFile),\(ManifestText.file)]"),
    ]

    static let tensors: [Case] = [
        Case("tensors", nil), Case("tensors", "[1]"), Case("tensors", "[{}]"),
        Case("tensors", tensor(#""dtype":"F33","shape":[2],"file":0"#), .unsupported),
        Case("tensors", tensor(#""dtype":"F32","shape":[2]"#)),
        Case("tensors", tensor(#""dtype":"F32","file":0"#)), Case("tensors", tensor(#""shape":[2],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":2,"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[-2],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2.0],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"file":1"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"file":-1"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"file":9223372036854775807"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[4611686018427387904],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[4294967296,4294967296],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[0,4294967296,4294967296],"file":0"#)),
        Case("tensors", tensor(#""dtype":"F4","shape":[3],"file":0"#)),
        Case("tensors", tensor(#""dtype":"U8","shape":[9223372036854775808],"file":0"#)),
        Case("tensors", tensor(#""dtype":"U8","shape":[1152921504606846976],"file":0"#)),
        Case(
            "tensors",
            #"[{"name":"v","dtype":"F4","shape":[1152921504606846976],"file":0},"#
                + #"{"name":"w","dtype":"F4","shape":[1152921504606846976],"file":0}]"#),
        Case("tensors", tensor(#""dtype":"F32","shape":\#(deep),"file":0"#)),
        Case("tensors", "[\(ManifestText.tensor),\(ManifestText.tensor)]"),
        Case("tensors", #"[{"name":"x","dtype":"F32","shape":[2],"file":0},\#(ManifestText.tensor)]"#),
        // Fragments.
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[]"#), .incomplete),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":5"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[1]]]"#), .incomplete),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[1],[2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[-1],[2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[-2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0,0],[1,2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[1,2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[9223372036854775807],[1]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[2]],[0,[0],[2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[1]],[0,[0],[1]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2],"fragments":[[0,[0],[1]],[7,[1],[1]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[2,2],"fragments":[[0,[0,0],[2,1]],[0,[1,0],[1,2]]]"#)),
        Case("tensors", tensor(#""dtype":"F32","shape":[],"fragments":[[0,[],[]],[0,[],[]]]"#)),
        Case(
            "tensors",
            tensor(
                #""dtype":"U8","shape":[\#(Int.max)],"fragments":[[0,[0],[\#(Int.max)]],[0,[1],[\#(Int.max - 1)]]]"#)),
    ]

    @Test func theTemplateItselfIsAccepted() throws {
        let manifest = try Manifest(parsing: ManifestText().sealed, file: "manifest.json")
        #expect(manifest.tensors.count == 1)
        let unknown = try Manifest(parsing: ManifestText("later", "{\"a\":[1]}").sealed, file: "manifest.json")
        #expect(unknown == manifest, "unknown members are ignored")
    }

    @Test(arguments: general + files + tensors)
    func aBrokenRuleIsAnErrorOfItsKind(_ broken: Case) {
        let bytes = ManifestText(broken.key, broken.json).sealed
        #expect { try Manifest(parsing: bytes, file: "manifest.json") } throws: { error in
            guard let error = error as? CairnError, error.code == broken.code else {
                Issue.record("\(error)")
                return false
            }
            return error.context.file == "manifest.json"
        }
    }

    @Test(arguments: ["", "{", "[]", "null", "{\"cairn\":1,\"cairn\":1", "{\"a\":" + deep, "\u{0}", "{\"cairn\":1}"])
    func aSealOverAnythingElseIsAnError(_ body: String) {
        #expect(throws: CairnError.self) { try Manifest(parsing: ManifestText.seal(body), file: "manifest.json") }
    }

    @Test func typedValuesHaveOneSpelling() throws {
        for (tag, text) in [
            ("$u64", "+5"), ("$u64", "05"), ("$f64", "+ff8000000000000"), ("$f64", "7FF8000000000000"),
        ] {
            let json = try JSONValue(parsing: "{\"\(tag)\":\"\(text)\"}")
            #expect(throws: CairnError.self, "\(tag) \(text)") { try ValueCoding.value(json) }
        }
    }

    @Test func aMillionFragmentsAreCheckedInReasonableTime() throws {
        // With quadratic work this would not end.
        let count = 1_000_000
        func sealed(_ fragments: [String]) -> [UInt8] {
            let list = fragments.joined(separator: ",")
            let tensor = Self.tensor(#""dtype":"F32","shape":[\#(count)],"fragments":[\#(list)]"#)
            return ManifestText("tensors", tensor).sealed
        }
        var fragments = (0..<count).map { "[0,[\($0)],[1]]" }
        let manifest = try Manifest(parsing: sealed(fragments), file: "manifest.json")
        #expect(manifest.tensors[0].fragments.count == count)
        fragments[count / 2] = fragments[count / 2 - 1]
        #expect { try Manifest(parsing: sealed(fragments), file: "manifest.json") } throws: {
            ($0 as? CairnError)?.code == .malformed
        }
    }

    /// A manifest whose tensors share one explicit layout.
    private static func explicit(_ tensors: [String], regions: String) -> [UInt8] {
        var text = ManifestText("tensors", "[" + tensors.joined(separator: ",") + "]")
        text.set("requires", #"["layouts"]"#)
        text.set("meshes", #"[[["dp",1]]]"#)
        text.set("layouts", "[[0,{\"explicit\":[[\(regions)]]}]]")
        return text.sealed
    }

    @Test func manyTensorsUnderOneLayoutOfManyRegionsAreCheckedOnce() throws {
        // With work, or memory, for each region of each tensor this would not end.
        let count = 20_000
        let regions = (0..<count).map { "[[\($0)],[1]]" }.joined(separator: ",")
        let tensors = (0..<count).map { number in
            let name = String(1_000_000 + number)
            return #"{"name":"\#(name)","dtype":"F32","shape":[\#(count)],"layout":0}"#
        }
        let manifest = try Manifest(parsing: Self.explicit(tensors, regions: regions), file: "manifest.json")
        let storage = MemoryStorage()
        try storage.publish(Self.explicit(tensors, regions: regions), as: "step-00000001/manifest.json")
        let reader = try CairnReader(storage, prefix: "step-00000001/", source: "memory")
        #expect(reader.tensors.count == manifest.tensors.count)
        let last = try reader.fragments(of: "1019999", intersecting: Region(offsets: [count - 2], shape: [2]))
        #expect(last.map(\.region.offsets) == [[count - 2], [count - 1]])
    }

    @Test func manyExplicitLayoutsAreToldApartAtOnce() throws {
        // Were they told apart by comparing each with each, this would not end.
        let count = 25_000
        var text = ManifestText(
            "tensors",
            "["
                + (0..<count).map { number in
                    #"{"name":"\#(1_000_000 + number)","dtype":"F32","shape":[\#(count + 2)],"layout":\#(number)}"#
                }.joined(separator: ",") + "]")
        text.set("requires", #"["layouts"]"#)
        text.set("meshes", #"[[["dp",1]]]"#)
        text.set(
            "layouts",
            "["
                + (0..<count).map { number in
                    "[0,{\"explicit\":[[[[0],[\(number + 1)]],[[\(number + 1)],[\(count + 1 - number)]]]]}]"
                }.joined(separator: ",") + "]")
        let storage = MemoryStorage()
        try storage.publish(text.sealed, as: "step-00000001/manifest.json")
        let reader = try CairnReader(storage, prefix: "step-00000001/", source: "memory")
        #expect(try reader.fragments(of: "1000007", intersecting: nil).map(\.region.offsets) == [[0], [8]])
    }

    @Test func aLayoutOfAHundredThousandDimensionsIsRefused() {
        // A call within a call for each dimension would be more than a stack holds.
        let ones = "[" + repeatElement("1", count: 100_000).joined(separator: ",") + "]"
        let zeros = "[" + repeatElement("0", count: 100_000).joined(separator: ",") + "]"
        let tensor = #"{"name":"w","dtype":"F32","shape":\#(ones),"layout":0}"#
        let error = #expect(throws: CairnError.self) {
            try Manifest(parsing: Self.explicit([tensor], regions: "[\(zeros),\(ones)]"), file: "manifest.json")
        }
        #expect(error?.code == .unsupported)
        #expect(error?.context.tensor == "w")
    }
}
