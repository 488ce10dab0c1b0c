import CairnBase
import CairnKeeperGroup
import CairnTesting
import Testing

@Suite struct GroupFileTests {
    private static func text(
        names: [String] = ["a", "b", "c"], hosts: [String] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"], parity: Int = 1,
        racks: [String] = [], keys: [String]? = nil
    ) throws -> [UInt8] {
        let keys = try keys ?? names.map { _ in try CurveKey().publicText }
        var members: [JSONValue] = []
        for index in names.indices {
            var member: JSONObject = [
                "name": .string(names[index]), "address": .string("tcp://\(hosts[index]):7700"), "key": .string(keys[index]),
            ]
            if !racks.isEmpty { _ = member.append("rack", .string(racks[index])) }
            members.append(.object(member))
        }
        return KeeperText.bytes(["group": .string("g"), "parity": .integer(Int64(parity)), "members": .array(members)])
    }

    private enum KeeperText {
        static func bytes(_ object: JSONObject) -> [UInt8] {
            var writer = JSONWriter()
            try? writer.write(.object(object))
            return writer.finish()
        }
    }

    private static func error(_ text: [UInt8]) -> CairnError? {
        refusal { _ = try GroupFile(parsing: text, file: "group.json") }
    }

    @Test func aGroupIsReadAndItsNumberSaysWhoIsInIt() throws {
        let text = try Self.text()
        let file = try GroupFile(parsing: text, file: "group.json")
        #expect(file.members.map(\.name) == ["a", "b", "c"] && file.parity == 1)
        #expect(try file.number == GroupFile(parsing: text, file: "x").number)
        #expect(try file.number != GroupFile(parsing: Self.text(), file: "x").number)
    }

    @Test func whatMakesAGroupUnsafeIsRefusedByName() throws {
        let one = try CurveKey().publicText
        #expect(try Self.error(Self.text(names: ["a", "a", "c"]))?.message.contains("one name") == true)
        #expect(try Self.error(Self.text(hosts: ["h", "h", "i"]))?.message.contains("one host") == true)
        #expect(try Self.error(Self.text(keys: [one, one, one]))?.message.contains("one key") == true)
        #expect(try Self.error(Self.text(keys: ["short", one, one]))?.context.advice?.contains("keep key") == true)
        #expect(try Self.error(Self.text(parity: 3))?.context.expected?.contains("0 to 2") == true)
        #expect(try Self.error(Self.text(parity: -1))?.code == .invalidArgument)
        #expect(try Self.error(Self.text(names: ["a"]))?.message.contains("members") == true)
        #expect(try Self.error(Self.text(racks: ["r", "r", "s"]))?.message.contains("rack") == true)
        #expect(try Self.error(Self.text(parity: 2, racks: ["r", "r", "s"])) == nil)
        #expect(try Self.error(Self.text(hosts: ["*", "b", "c"]))?.message.contains("address") == true)
        #expect(Self.error(Array("{".utf8))?.code == .malformed)
        #expect(Self.error(Array("{\"group\": \"g\"}".utf8))?.context.file == "group.json")
    }

    @Test func aSecretKeyIsReadByItsOwnerAlone() throws {
        let directory = try TemporaryDirectory()
        let key = try CurveKey()
        try key.save(to: directory.path("key"))
        #expect(try CurveKey(path: directory.path("key")).publicText == key.publicText)
        #expect(refusal { try key.save(to: directory.path("key")) } != nil)
        try directory.expose("key")
        #expect(refusal { _ = try CurveKey(path: directory.path("key")) }?.code == .accessDenied)
    }
}
