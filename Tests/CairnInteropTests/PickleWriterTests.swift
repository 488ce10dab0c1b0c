import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor
import Testing

@Suite("Pickles that are written")
struct PickleWriterTests {
    private func graph(_ body: (inout PickleWriter) throws -> Void) throws -> PickleGraph {
        var writer = PickleWriter()
        try body(&writer)
        return try PickleInterpreter.read(writer.finish(), file: "pickle")
    }

    @Test(
        "Integers of every width come back",
        arguments: [
            0, 1, 255, 256, 65_535, 65_536, -1, -128, -32_769, Int(Int32.max), Int(Int32.min), Int(Int32.max) + 1,
            Int(Int32.min) - 1, Int.max, Int.min,
        ])
    func integers(value: Int) throws {
        let graph = try graph { $0.integer(value) }
        #expect(graph.integer(graph.root) == value)
    }

    @Test("What is not an Int but a 64-bit number stays positive")
    func unsigned() throws {
        let graph = try graph { $0.integer(UInt64.max) }
        guard case .bigInteger(let bytes) = graph[graph.root] else {
            Issue.record("no large integer")
            return
        }
        #expect(bytes == [UInt8](repeating: 0xFF, count: 8) + [0])
    }

    @Test("The bytes are those that Python writes in protocol 2")
    func isPythonsSpelling() throws {
        var writer = PickleWriter()
        try writer.dictionary { writer throws(CairnError) in
            try writer.string("a")
            try writer.list { writer throws(CairnError) in
                writer.integer(1)
                writer.double(0.5)
                writer.none()
                writer.bool(true)
                try writer.bytes([0, 255])
            }
        }
        // pickletools.optimize(pickle.dumps({"a": [1, 0.5, None, True, b"\0\xff"]}, 2)), one name memoised, MARK and
        // SETITEMS for the one key, a marked tuple of two.
        let expected =
            [0x80, 2] + Array("}(X".utf8) + [1, 0, 0, 0] + Array("a](K".utf8) + [1] + Array("G".utf8)
            + [0x3F, 0xE0, 0, 0, 0, 0, 0, 0] + Array("N".utf8) + [0x88] + Array("c_codecs\nencode\nq".utf8) + [0]
            + Array("(X".utf8) + [3, 0, 0, 0, 0, 0xC3, 0xBF] + Array("X".utf8) + [6, 0, 0, 0]
            + Array("latin1tReu.".utf8)
        #expect(writer.finish() == expected)
    }

    @Test("A name is written once and pushed again by its number, beyond 256 too")
    func memo() throws {
        let graph = try graph { writer in
            writer.list { writer in
                for index in 0..<300 { writer.global("package.module", "Class\(index)") }
                for index in 0..<300 { writer.global("package.module", "Class\(index)") }
            }
        }
        let elements = try #require(graph.sequence(graph.root))
        #expect(graph.globals.count == 300)
        #expect(Array(elements[..<300]) == Array(elements[300...]))
    }

    @Test("Calls, states and persistent identifications are what the interpreter reads")
    func objects() throws {
        let graph = try graph { writer in
            writer.global("collections", "OrderedDict")
            writer.emptyTuple()
            writer.reduce()
            writer.mark()
            try writer.string("key")
            writer.tuple([2, 3])
            writer.persistent()
            writer.setAll()
            writer.emptyDictionary()
            writer.build()
        }
        let object = try #require(graph.object(graph.root))
        #expect(object.constructor.path == "collections.OrderedDict")
        #expect(object.items.count == 2)
        #expect(object.state != nil)
        guard case .persistent(let identification) = graph[object.items[1]] else {
            Issue.record("no persistent object")
            return
        }
        #expect(graph.integers(identification) == [2, 3])
    }

    @Test("A value that is nested too deeply is refused")
    func depth() throws {
        var value = Value.null
        for _ in 0..<300 { value = .list([value]) }
        #expect(throws: CairnError.self) {
            var writer = PickleWriter()
            try writer.value(value)
        }
    }
}
