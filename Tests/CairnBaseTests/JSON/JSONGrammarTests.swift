import CairnBase
import Testing

/// What is JSON and what is not, as RFC 8259 says.
@Suite struct JSONGrammarTests {
    private static let accepted = [
        "null", "true", "false", "0", "-0", "1.5", "1E2", "1e+2", "1e-2", "0.0e0", "-0.0", "\"\"", "[]", "{}",
        " \t\r\n[ ]\r\n", "[1,2]", "[ 1 , 2 ]", "{\"a\":1}", "{ \"a\" : { \"b\" : [ null ] } }", "{\"\":0}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", "\"\\u0000\"",
        "\"\u{7f}\"",
        "\"\u{2028}\"", "\"e\u{301}\u{10FFFF}\"", "[[],{},[{}]]", "{\"\u{e9}\":1,\"e\u{301}\":2}", "1e-999",
    ]

    // Not arguments of the test: those are printed, and control characters garble a log.
    private static let rejected = [
        // Structure.
        "", " ", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{]", "[1]]", "{}{}", "1 2", "null,",
        "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,\"a\":1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{a:1}", "{'a':1}",
        "{1:2}", "{\"a\":1,1}", "{null:1}", "[1:2]", "{\"a\"::1}", "[1,,2]", "{\"a\",\"b\"}",
        // Words.
        "nul", "nulll", "True", "NULL", "tru", "truefalse", "falsy", "undefined", "NaN", "nan", "Infinity", "-Infinity",
        // Numbers.
        "-", "+1", "01", "-01", "00", "1.", ".5", "-.5", "1.e1", "1e", "1e+", "1E-", "0x10", "1_000", "1.2.3", "1e1.5",
        "- 1", "--1", "1a", "\u{ff11}", "1e999", "-1e999", "18446744073709551616", "-9223372036854775809",
        "99999999999999999999999",
        // Strings.
        "\"", "\"a", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u\"", "\"\\u12\"", "\"\\u123g\"", "\"\\U0041\"", "'a'",
        "\"a\nb\"", "\"\t\"", "\"\u{0}\"", "\"\u{1f}\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\ud800\"",
        "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\udc00\\ud800\"", "\"\\udc00\\udc00\"",
        "\"\\ud800\\u0041\"", "\"\\ud83d\\\"",
        // Comments, marks and other space.
        "/**/1", "1 // one", "#1", "\u{feff}1", "1\u{feff}", "\u{a0}1", "\u{b}1", "\u{c}1", "1\u{0}", "\u{0}",
    ]

    private func skip(_ bytes: [UInt8]) throws {
        var reader = JSONReader(bytes.span)
        try reader.skipValue()
        try reader.finish()
    }

    @Test func readsAndSkipsWhatIsJSON() {
        for text in Self.accepted {
            let name = Comment(rawValue: text.debugDescription)
            #expect(throws: Never.self, name) { try JSONValue(parsing: text) }
            #expect(throws: Never.self, name) { try skip(Array(text.utf8)) }
        }
    }

    @Test func neitherReadsNorSkipsWhatIsNot() {
        for text in Self.rejected {
            let name = Comment(rawValue: text.debugDescription)
            let bytes = Array(text.utf8)
            let error = #expect(throws: JSONError.self, name) { try JSONValue(parsing: bytes) }
            #expect((0...bytes.count).contains(error?.offset ?? -1), name)
            // Numbers that are too large are a matter of reading, not of grammar.
            if error?.message.hasSuffix("out of range") == true { continue }
            #expect(throws: JSONError.self, name) { try skip(bytes) }
        }
    }

    static let invalidUTF8: [[UInt8]] = [
        [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xc2, 0x41], [0xc2, 0xc2], [0xe0, 0x80, 0x80],
        [0xe0, 0x9f, 0xbf], [0xe1, 0x80], [0xe1, 0x80, 0x41], [0xe1, 0x41, 0x80], [0xed, 0xa0, 0x80],
        [0xed, 0xbf, 0xbf], [0xef, 0xbf], [0xf0, 0x80, 0x80, 0x80], [0xf0, 0x8f, 0xbf, 0xbf], [0xf0, 0x90, 0x80],
        [0xf1, 0x80, 0x80, 0x41], [0xf1, 0x80, 0x41, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80],
        [0xf8, 0x88, 0x80, 0x80, 0x80], [0xfe], [0xff],
    ]

    @Test(arguments: invalidUTF8)
    func rejectsInvalidUTF8AtItsOffset(_ sequence: [UInt8]) {
        for padding in [0, 1, 7, 8, 20] {
            let plain = [UInt8](repeating: UInt8(ascii: "x"), count: padding)
            for escape in ["", "\\n"] {
                let text = Array("\"".utf8) + plain + Array(escape.utf8) + sequence + Array("\"".utf8)
                let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
                #expect(error?.offset == 1 + padding + escape.utf8.count)
                #expect(throws: JSONError.self) { try JSONValue(parsing: text.dropLast()) }
            }
        }
    }

    @Test(arguments: [
        "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10000}", "\u{fffff}", "\u{10ffff}",
    ])
    func acceptsTheLimitsOfEachLengthOfUTF8(_ character: String) throws {
        for padding in 0...9 {
            let text = String(repeating: "x", count: padding) + character
            #expect(try JSONValue(parsing: "\"" + text + "\"") == .string(text))
        }
    }

    @Test func findsEveryByteThatEndsAPlainRun() throws {
        for length in 0...17 {
            for byte in UInt8.min...UInt8.max {
                var text = [UInt8](repeating: UInt8(ascii: "~"), count: length)
                text.append(byte)
                text += Array("\"".utf8)
                let parsed = try? JSONValue(parsing: Array("\"".utf8) + text)
                let isPlain = byte >= 0x20 && byte < 0x80 && byte != 0x22 && byte != 0x5c
                let expected = String(decoding: text.dropLast(), as: UTF8.self)
                #expect(parsed == (isPlain ? .string(expected) : nil), "byte \(byte) after \(length)")
            }
        }
    }

    @Test func nestingStopsAtTheLimit() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try JSONValue(parsing: nested(64))
        #expect(throws: JSONError.self) { try JSONValue(parsing: nested(65)) }
        _ = try JSONValue(parsing: nested(3), maximumDepth: 3)
        #expect(throws: JSONError.self) { try JSONValue(parsing: nested(4), maximumDepth: 3) }
        _ = try JSONValue(parsing: "1", maximumDepth: 0)
        #expect(throws: JSONError.self) { try JSONValue(parsing: "[]", maximumDepth: 0) }
        // Siblings do not add up.
        _ = try JSONValue(parsing: "[[],[],{\"a\":[]}]", maximumDepth: 3)
    }

    @Test(arguments: ["[", "{\"a\":", "[{\"a\":"])
    func deepNestingIsAnErrorAtOnce(_ opening: String) {
        let text = Array(String(repeating: opening, count: 100_000).utf8)
        for depth in [64, JSONReader.greatestDepth, Int.max] {
            let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text, maximumDepth: depth) }
            #expect(error?.offset ?? .max < 2_000)
            #expect(throws: JSONError.self) {
                var reader = JSONReader(text.span, maximumDepth: depth)
                try reader.skipValue()
            }
        }
    }

    @Test func aRepeatedMemberIsAnErrorWhereItsValueIs() throws {
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: "{\"a\":1,\"b\":2,\"\\u0061\": 3}") }
        #expect(error == JSONError(offset: 23, "the member \"a\" repeats"))
        let many = (0..<50).map { "\"m\($0)\":0" }.joined(separator: ",")
        #expect(throws: JSONError.self) { try JSONValue(parsing: "{\(many),\"m7\":1}") }
        #expect(try JSONValue(parsing: "{\(many)}").asObject().members.count == 50)
    }
}
