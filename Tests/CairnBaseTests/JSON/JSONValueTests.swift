import CairnBase
import Testing

@Suite struct JSONValueTests {
    @Test func membersKeepTheirOrderAndAreFoundByName() throws {
        for count in [3, 8, 9, 100] {
            let members = (0..<count).map { "\"m\(count - $0)\":\($0)" }.joined(separator: ",")
            let object = try JSONValue(parsing: "{\(members)}").asObject()
            #expect(object.members.map(\.key) == (0..<count).map { "m\(count - $0)" })
            for index in 0..<count { #expect(object["m\(count - index)"] == .integer(Int64(index))) }
            #expect(object["m0"] == nil)
        }
    }

    @Test func namesAreComparedByteByByte() throws {
        for extra in [0, 20] {
            let padding = (0..<extra).map { ",\"p\($0)\":0" }.joined()
            let object = try JSONValue(parsing: "{\"\u{e9}\":1,\"e\u{301}\":2\(padding)}").asObject()
            #expect(object["\u{e9}"] == .integer(1))
            #expect(object["e\u{301}"] == .integer(2))
        }
    }

    @Test func membersAreReplacedInPlaceAndRemoved() {
        var object: JSONObject = [:]
        for index in 0..<12 { object["m\(index)"] = .integer(Int64(index)) }
        object["m3"] = .null
        object["m5"] = nil
        object["missing"] = nil
        #expect(object.members.map(\.key) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11].map { "m\($0)" })
        #expect(object["m3"] == .null)
        #expect(object["m11"] == .integer(11))
        #expect(object["m5"] == nil)
        let added = object.append("m4", .null)
        #expect(!added)
        #expect(object["m4"] == .integer(4))
    }

    @Test func accessorsGiveTheValue() throws {
        let object = try JSONValue(
            parsing: "{\"o\":{},\"a\":[1],\"s\":\"x\",\"i\":-1,\"u\":18446744073709551615,\"d\":0.5,\"b\":true}"
        ).asObject()
        #expect(try object.object("o") == [:])
        #expect(try object.array("a") == [.integer(1)])
        #expect(try object.string("s") == "x")
        #expect(try object.integer("i") == -1)
        #expect(try object.uint64("u") == .max)
        #expect(try object.double("d") == 0.5)
        #expect(try object.double("i") == -1)
        #expect(try object.bool("b"))
    }

    @Test func accessorsNameTheMemberAndWhatWasFound() throws {
        let object: JSONObject = [
            "s": .string("x"), "d": .double(1), "n": .integer(-1), "u": JSONValue(UInt64.max), "a": .array([]),
        ]
        func message<Value>(_ body: () throws -> Value) -> String {
            do {
                _ = try body()
                return "nothing thrown"
            } catch {
                return "\(error)"
            }
        }
        #expect(message { try object.integer("z") } == "the member \"z\" is missing")
        #expect(message { try object.object("s") } == "the member \"s\": expected an object, found the string \"x\"")
        #expect(message { try object.integer("d") }.hasSuffix("found 1.0"))
        #expect(message { try object.integer("u") }.hasSuffix("found 18446744073709551615"))
        #expect(message { try object.uint64("n") }.hasSuffix("found -1"))
        #expect(message { try object.bool("a") } == "the member \"a\": expected a boolean, found an array")
        #expect(message { try object.string("a") } == "the member \"a\": expected a string, found an array")
        #expect(message { try object.array("s") } == "the member \"s\": expected an array, found the string \"x\"")
        #expect(message { try object.double("s") } == "the member \"s\": expected a number, found the string \"x\"")
    }
}
