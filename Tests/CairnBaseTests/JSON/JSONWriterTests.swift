import CairnBase
import Testing

@Suite struct JSONWriterTests {
    private func text(_ value: JSONValue, style: JSONWriter.Style = .compact) throws -> String {
        var writer = JSONWriter(style: style)
        try writer.write(value)
        return String(decoding: writer.finish(), as: UTF8.self)
    }

    @Test func compactTextHasNoWhiteSpace() throws {
        let object: JSONObject = [
            "a": .array([.null, .bool(true), .bool(false), .integer(-1)]), "o": .object([:]), "e": .array([]),
            "s": .string("x y"),
        ]
        #expect(try text(.object(object)) == #"{"a":[null,true,false,-1],"o":{},"e":[],"s":"x y"}"#)
    }

    @Test func piecesMakeTheSameTextAsATree() throws {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("a")
        writer.beginArray()
        writer.write(1)
        writer.write(UInt64.max)
        writer.write(Int64.min)
        try writer.write(2.5)
        writer.write("s")
        writer.write(true)
        writer.writeNull()
        writer.endArray()
        writer.key("b")
        writer.beginObject()
        writer.endObject()
        writer.endObject()
        let expected = #"{"a":[1,18446744073709551615,-9223372036854775808,2.5,"s",true,null],"b":{}}"#
        #expect(String(decoding: writer.finish(), as: UTF8.self) == expected)
    }

    @Test func prettyTextPutsShortValuesOnOneLine() throws {
        let value = try JSONValue(
            parsing: #"{"shape":[2,3],"nested":{"a":{"b":[1,[],{}]},"text":"[ \n, ]"},"long":["xxxxxxxx","yyyyyyyy"]}"#)
        #expect(
            try text(value, style: .pretty(maximumInlineWidth: 0)) == """
                {
                  "shape": [
                    2,
                    3
                  ],
                  "nested": {
                    "a": {
                      "b": [
                        1,
                        [],
                        {}
                      ]
                    },
                    "text": "[ \\n, ]"
                  },
                  "long": [
                    "xxxxxxxx",
                    "yyyyyyyy"
                  ]
                }
                """)
        #expect(
            try text(value, style: .pretty(maximumInlineWidth: 22)) == """
                {
                  "shape": [2, 3],
                  "nested": {
                    "a": {"b": [1, [], {}]},
                    "text": "[ \\n, ]"
                  },
                  "long": [
                    "xxxxxxxx",
                    "yyyyyyyy"
                  ]
                }
                """)
        #expect(
            try text(value, style: .pretty(maximumInlineWidth: 1_000)) == #"""
                {"shape": [2, 3], "nested": {"a": {"b": [1, [], {}]}, "text": "[ \n, ]"}, "long": ["xxxxxxxx", "yyyyyyyy"]}
                """#)
    }

    @Test func theInlineWidthIsExact() throws {
        let value = try JSONValue(parsing: #"[{"k":[[1,2],"three"]}]"#)
        let line = #"{"k": [[1, 2], "three"]}"#
        #expect(try text(value, style: .pretty(maximumInlineWidth: line.utf8.count)) == "[\n  \(line)\n]")
        #expect(try text(value, style: .pretty(maximumInlineWidth: line.utf8.count - 1)) != "[\n  \(line)\n]")
        #expect(try text(value, style: .pretty(maximumInlineWidth: line.utf8.count + 2)) == "[\(line)]")
    }

    @Test func onlyWhatMustBeEscapedIs() throws {
        var all = String(String.UnicodeScalarView((0..<0x80).compactMap { Unicode.Scalar($0) }))
        all += "\u{e9}\u{2028}\u{1f600}"
        let written = try text(.string(all))
        #expect(
            written.hasPrefix(
                "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f\\u0010"))
        #expect(
            written.hasSuffix(
                "\\u001f !\\\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`"
                    + "abcdefghijklmnopqrstuvwxyz{|}~\u{7f}\u{e9}\u{2028}\u{1f600}\""))
        #expect(try JSONValue(parsing: written) == .string(all))
    }

    @Test func doublesAreShortestAndStayDoubles() throws {
        for (value, expected) in [
            (1.0, "1.0"), (-0.0, "-0.0"), (0.1, "0.1"), (1e16, "1e+16"), (.leastNonzeroMagnitude, "5e-324"),
            (0.0001, "0.0001"), (1e-5, "1e-05"), (9_007_199_254_740_992, "9007199254740992.0"),
            (1.0 / 3, "0.3333333333333333"), (Double.greatestFiniteMagnitude, "1.7976931348623157e+308"),
        ] {
            #expect(try text(.double(value)) == expected)
            let parsed = try JSONValue(parsing: expected)
            guard case .double(let back) = parsed else {
                Issue.record("\(expected) was read as \(parsed)")
                continue
            }
            #expect(back.bitPattern == value.bitPattern)
        }
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity])
    func aNumberThatJSONCannotExpressIsAnErrorThatWritesNothing(_ value: Double) throws {
        var writer = JSONWriter()
        writer.beginArray()
        #expect(throws: JSONError.self) { try writer.write(value) }
        writer.write(1)
        writer.endArray()
        #expect(writer.finish() == Array("[1]".utf8))
        #expect(throws: JSONError.self) { try text(.object(["a": .double(value)])) }
    }
}
