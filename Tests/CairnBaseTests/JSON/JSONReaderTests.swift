import CairnBase
import Testing

@Suite struct JSONReaderTests {
    @Test func readsAHeaderMemberByMember() throws {
        let text = """
            {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
            """
        let bytes = Array(text.utf8)
        var reader = JSONReader(bytes.span)
        var seen: [String] = []
        var shape: [Int] = []
        try reader.readObject { reader, name throws(JSONError) in
            seen.append(name)
            try reader.readObject { reader, field throws(JSONError) in
                seen.append(field)
                if field == "shape" {
                    try reader.readArray { reader throws(JSONError) in shape.append(try reader.readInteger()) }
                } else if field == "dtype" {
                    seen.append(try reader.readString())
                }
            }
        }
        try reader.finish()
        #expect(seen == ["__metadata__", "format", "w", "dtype", "F32", "shape", "data_offsets"])
        #expect(shape == [2, 3])
    }

    @Test func aValueThatTheClosureLeavesAloneIsSkippedButChecked() throws {
        let good = Array("{ \"a\" : [1, {\"b\": \"\\n\"}] , \"c\" : 1.5e3 }".utf8)
        var count = 0
        var reader = JSONReader(good.span)
        try reader.readObject { _, _ in count += 1 }
        try reader.finish()
        #expect(count == 2)
        let bad = Array("[[1, {\"b\": \"\\x\"}]]".utf8)
        let error = #expect(throws: JSONError.self) {
            var reader = JSONReader(bad.span)
            try reader.readArray { _ in }
        }
        #expect(error?.offset == 12)
    }

    @Test func aClosureThatReadsTwoValuesIsAnError() {
        let bytes = Array("[1, 2]".utf8)
        #expect(throws: JSONError.self) {
            var reader = JSONReader(bytes.span)
            try reader.readArray { reader throws(JSONError) in
                _ = try reader.readInteger()
                _ = try reader.readInteger()
            }
        }
    }

    @Test func peekingTellsTheKindAndConsumesNothing() throws {
        for (text, kind) in [
            ("{}", JSONKind.object), ("[]", .array), ("\"\"", .string), ("-1", .number), ("7", .number),
            ("true", .bool), ("false", .bool), (" null", .null),
        ] {
            let bytes = Array(text.utf8)
            var reader = JSONReader(bytes.span)
            #expect(try reader.peekKind() == kind)
            #expect(try reader.peekKind() == kind)
            #expect(try reader.readValue().kind == kind)
        }
    }

    @Test func theWrongKindIsNamed() {
        func message(_ text: String, _ read: (inout JSONReader) throws -> Void) -> String {
            let bytes = Array(text.utf8)
            var reader = JSONReader(bytes.span)
            do {
                try read(&reader)
                return "nothing thrown"
            } catch {
                return "\(error)"
            }
        }
        #expect(message(" \"x\"") { _ = try $0.readInteger() } == "offset 1: expected an integer, found a string")
        #expect(message("1.0") { _ = try $0.readInteger() } == "offset 0: expected an integer, found the number 1.0")
        #expect(message("1e3") { _ = try $0.readInteger() } == "offset 0: expected an integer, found the number 1e3")
        let beyond = "9223372036854775808"
        #expect(message(beyond) { _ = try $0.readInteger() } == "offset 0: the number \(beyond) is out of range")
        #expect(message("[]") { _ = try $0.readString() } == "offset 0: expected a string, found an array")
        #expect(message("null") { _ = try $0.readBool() } == "offset 0: expected a boolean, found null")
        #expect(message("{}") { try $0.readNull() } == "offset 0: expected null, found an object")
        #expect(message("1") { try $0.readObject { _, _ in } } == "offset 0: expected an object, found a number")
        #expect(message("true") { try $0.readArray { _ in } } == "offset 0: expected an array, found a boolean")
        #expect(message("[1 2]") { try $0.skipValue() } == "offset 3: expected ',' or ']', found '2'")
        #expect(message("[1") { try $0.skipValue() } == "offset 2: expected ',' or ']', found the end of the text")
        #expect(message("\u{1}") { try $0.skipValue() } == "offset 0: expected a value, found byte 0x01")
    }

    @Test func escapesAreResolved() throws {
        let text = "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20aC\\uD83d\\ude00-\u{e9}\\u0000.\""
        let bytes = Array(text.utf8)
        var reader = JSONReader(bytes.span)
        #expect(try reader.readString() == "\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{20ac}\u{1f600}-\u{e9}\u{0}.")
        try reader.finish()
    }

    @Test func theErrorForUsersCountsFromTheBeginningOfTheFile() {
        let error = JSONError(offset: 10, "expected a value").cairnError(file: "a.safetensors", baseOffset: 8)
        #expect(error.code == .malformed)
        #expect(error.context == CairnError.Context(file: "a.safetensors", offset: 18))
        #expect(error.description == "a.safetensors, offset 18: expected a value")
        #expect(JSONError(offset: 10, "x").cairnError(file: "f", baseOffset: .max).context.offset == nil)
        #expect(JSONError("x").cairnError(file: "f", baseOffset: 8).context.offset == nil)
    }
}
