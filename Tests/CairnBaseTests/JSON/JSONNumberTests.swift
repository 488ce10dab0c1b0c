import CairnBase
import Testing

@Suite struct JSONNumberTests {
    private func parse(_ text: String) throws -> JSONValue { try JSONValue(parsing: text) }

    @Test func integersAreExactToTheirLimits() throws {
        #expect(try parse("-9223372036854775808") == .integer(.min))
        #expect(try parse("9223372036854775807") == .integer(.max))
        #expect(try parse("9223372036854775808") == .unsigned(9_223_372_036_854_775_808))
        #expect(try parse("18446744073709551615") == .unsigned(.max))
        #expect(try parse("9007199254740993") == .integer(9_007_199_254_740_993))
        #expect(try parse("-0") == .integer(0))
        #expect(try parse("10000000000000000000") == .unsigned(10_000_000_000_000_000_000))
        for text in [
            "18446744073709551616", "-9223372036854775809", "-18446744073709551615", "100000000000000000000",
            "184467440737095516165",
        ] {
            #expect(throws: JSONError.self) { try parse(text) }
        }
    }

    @Test func theNotationDecidesBetweenIntegerAndDouble() throws {
        #expect(try parse("1") == .integer(1))
        #expect(try parse("1.0") == .double(1))
        #expect(try parse("1e0") == .double(1))
        #expect(try parse("1E0") == .double(1))
    }

    @Test func doublesAreCorrectlyRounded() throws {
        func bits(_ text: String) throws -> UInt64 { try parse(text).asDouble().bitPattern }
        #expect(try bits("-0.0") == (-0.0 as Double).bitPattern)
        #expect(try bits("5e-324") == 1)
        #expect(try bits("2.4703282292062327e-324") == 0)
        #expect(try bits("2.4703282292062328e-324") == 1)
        #expect(try bits("2.2250738585072011e-308") == 0x000f_ffff_ffff_ffff)
        #expect(try bits("2.2250738585072014e-308") == 0x0010_0000_0000_0000)
        #expect(try bits("1.7976931348623157e308") == Double.greatestFiniteMagnitude.bitPattern)
        #expect(try bits("0.1") == 0x3fb9_9999_9999_999a)
        #expect(try bits("9007199254740993.0") == (9_007_199_254_740_992 as Double).bitPattern)
        #expect(
            try bits("9007199254740993.00000000000000000000000000000000001")
                == (9_007_199_254_740_994 as Double).bitPattern)
        // Half way between 1 and its successor, then a nonzero digit far behind.
        let half = "1.00000000000000011102230246251565404236316680908203125"
        #expect(try bits(half) == 0x3ff0_0000_0000_0000)
        #expect(try bits(half + String(repeating: "0", count: 800) + "1") == 0x3ff0_0000_0000_0001)
        #expect(try bits("1e-999") == 0)
        #expect(throws: JSONError.self) { try parse("1.8e308") }
    }

    @Test func readersConvertOnlyWhereTheValueIsKept() throws {
        func read<Value>(_ text: String, _ body: (inout JSONReader) throws -> Value) throws -> Value {
            let bytes = Array(text.utf8)
            var reader = JSONReader(bytes.span)
            let value = try body(&reader)
            try reader.finish()
            return value
        }
        #expect(try read("-9223372036854775808") { try $0.readInteger() } == .min)
        #expect(try read("9223372036854775807") { try $0.readInteger() } == .max)
        #expect(throws: JSONError.self) { try read("9223372036854775808") { try $0.readInteger() } }
        #expect(try read("-0") { try $0.readInteger() } == 0)
        #expect(try read("7") { try $0.readNumber() } == .integer(7))
        #expect(try read("7e0") { try $0.readNumber() } == .double(7))
        #expect(try read("18446744073709551615") { try $0.readNumber() } == .unsigned(.max))
        #expect(throws: JSONError.self) { try read("18446744073709551616") { try $0.readNumber() } }
        // A very long number is named in short.
        let error = #expect(throws: JSONError.self) {
            try read(String(repeating: "9", count: 5_000)) { try $0.readInteger() }
        }
        #expect(error?.message.utf8.count ?? .max < 100)
    }
}
