import CairnBase
import Testing

@Suite struct HexadecimalTests {
    @Test func everyByteIsTwoLowercaseDigits() throws {
        let bytes = Array(UInt8.min...UInt8.max)
        let text = Hexadecimal.encode(bytes)
        #expect(text.hasPrefix("000102030405060708090a0b0c0d0e0f10"))
        #expect(text.hasSuffix("f9fafbfcfdfeff"))
        #expect(try Hexadecimal.decode(text) == bytes)
        #expect(try Hexadecimal.decode(text.uppercased()) == bytes)
        #expect(Hexadecimal.encode([]) == "")
    }

    @Test(arguments: ["0", "0g", "g0", "0x", " 0", "00 ", "\u{e9}", "@`", "/:", "\u{ff10}0"])
    func anythingElseIsAnError(_ text: String) {
        let error = #expect(throws: CairnError.self) { try Hexadecimal.decode(text) }
        #expect(error?.code == .malformed)
    }
}
