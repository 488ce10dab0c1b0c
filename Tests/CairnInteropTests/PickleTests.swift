import CairnBase
import CairnInterop
import CairnStorage
import Testing

@Suite struct PickleTests {
    private func read(_ bytes: [UInt8], limits: PickleLimits = PickleLimits()) throws(CairnError) -> PickleGraph {
        try PickleInterpreter.read(bytes, file: "test", fileOffset: 1000, limits: limits)
    }

    private func read(_ text: String) throws(CairnError) -> PickleGraph { try read(Array(text.utf8)) }

    private func refusal(_ bytes: [UInt8], limits: PickleLimits = PickleLimits()) -> CairnError? {
        do throws(CairnError) {
            _ = try read(bytes, limits: limits)
            return nil
        } catch {
            return error
        }
    }

    @Test func everyProtocolSpellsTheSameData() throws {
        // pickle.dumps({"a": [1, -2, True, None, 2.5, "é"]}, protocol) of Python 3.11.
        let first = try read("(dp0\nVa\np1\n(lp2\nI1\naI-2\naI01\naNaF2.5\naV\u{5C}u00e9\np3\nas.")
        let second: [UInt8] =
            [0x80, 2] + Array("}q\u{0}X\u{1}\u{0}\u{0}\u{0}aq\u{1}]q\u{2}(K\u{1}J".utf8)
            + [0xFE, 0xFF, 0xFF, 0xFF, 0x88]
            + Array("NG@\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}X\u{2}\u{0}\u{0}\u{0}éq\u{3}es.".utf8)
        for graph in [first, try read(second)] {
            let list = try #require(graph.value("a", of: graph.root).flatMap { graph.sequence($0) })
            #expect(list.count == 6)
            #expect(graph.integer(list[0]) == 1)
            #expect(graph.integer(list[1]) == -2)
            guard case .bool(true) = graph[list[2]], case .none = graph[list[3]], case .double(2.5) = graph[list[4]]
            else {
                Issue.record("\(graph.nodes)")
                return
            }
            #expect(graph.string(list[5]) == "é")
        }
    }

    @Test func integersOfAnyLengthKeepTheirValue() throws {
        let long: [(bytes: [UInt8], value: Int64?)] = [
            ([], 0), ([0xFF], -1), ([0xFF, 0], 255), ([0, 0, 0, 0, 0, 0, 0, 0x80], .min),
            ([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0], .max), ([0, 0, 0, 0, 0, 0, 0, 0x80, 0], nil),
        ]
        for (bytes, value) in long {
            let graph = try read([0x80, 4, 0x8A, UInt8(bytes.count)] + bytes + [0x2E])
            #expect(graph.integer(graph.root).map { Int64($0) } == value, "\(bytes)")
        }
    }

    @Test func callsStayData() throws {
        // An object of an unknown class, with a state, in a list.
        let graph = try read("(lp0\n(imy.module\nThing\n(dVx\nI7\nsba.")
        let object = try #require(graph.sequence(graph.root)?.first.flatMap { graph.object($0) })
        #expect(object.constructor.path == "my.module.Thing")
        #expect(object.state.flatMap { graph.value("x", of: $0) }.flatMap { graph.integer($0) } == 7)
    }

    @Test(arguments: [
        "cos\nsystem\n(S'echo'\ntR.", "cposix\nsystem\n(S'echo'\ntR.", "(S'echo'\nios\nsystem\n.",
        "(cos\nsystem\nS'echo'\no.", "cbuiltins\neval\n(S'1'\ntR.", "c__builtin__\ngetattr\n(S'1'\ntR.",
        "csubprocess\nPopen\n(S'x'\ntR.", "cos.path\njoin\n)\u{81}.", "cnt\nsystem\n(S'echo'\ntR.",
    ])
    func callsThatNoCheckpointMakesAreRefused(pickle: String) throws {
        let bytes = pickle.unicodeScalars.map { UInt8($0.value) }
        let error = try #require(refusal(bytes))
        #expect(error.code == .unsupported)
        #expect(error.description.contains("would run code"))
        #expect(try #require(error.context.offset) > 1000)
    }

    @Test(arguments: [
        "S'x'\n(tR.", "(lI1\nb.", "(dI1\nb.", "I1\nI2\na.", "I1\nI2\nI3\ns.", "(I1\nd.", "t.", "h\u{5}.", "g9\n.", "0.",
        "", "I1", "(.", "Vx", "\u{82}\u{1}.", "I1.5\n.", "S'x\n.", "cmy\nclass\n(I1\ntR(dbI1\nb.", "P1\nI2\nR.",
    ])
    func picklesThatMakeNoSenseAreRefused(pickle: String) throws {
        let error = try #require(refusal(pickle.unicodeScalars.map { UInt8($0.value) }))
        #expect([.malformed, .incomplete, .unsupported].contains(error.code))
        #expect(error.context.file == "test")
        #expect(error.context.offset != nil)
    }

    @Test func limitsHold() {
        // A hundred megabytes of integer, a frame and a text beyond the end, and more nodes than allowed.
        #expect(refusal([0x8B, 0, 0, 0, 6] + [UInt8](repeating: 1, count: 64))?.code == .unsupported)
        #expect(refusal([0x95] + [UInt8](repeating: 0xFF, count: 7) + [0x7F])?.code == .incomplete)
        #expect(refusal([0x8D] + [UInt8](repeating: 0xFF, count: 8) + [0x2E])?.code == .malformed)
        var limits = PickleLimits()
        limits.nodeCount = 100
        #expect(refusal([UInt8](repeating: 0x5D, count: 200) + [0x2E], limits: limits)?.code == .unsupported)
    }

    @Test func nestingAndCyclesCostNothing() throws {
        // A list in a list, a hundred thousand deep, and a list that holds itself.
        let deep = [UInt8](repeating: 0x5D, count: 100_000) + [UInt8](repeating: 0x61, count: 99_999) + [0x2E]
        #expect(try read(deep).nodes.count == 100_003)
        let cycle = try read("(lp0\ng0\na.")
        #expect(cycle.sequence(cycle.root) == [cycle.root])
    }
}
