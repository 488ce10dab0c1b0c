import CairnBase
import CairnTesting
import Testing

@Suite struct Base64Tests {
    /// RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func followsTheVectorsOfTheRFC(_ plain: String, _ encoded: String) throws {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(try Base64.decode(encoded) == Array(plain.utf8))
    }

    @Test func everyLengthIsReadBackAsWritten() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        for length in 0..<200 {
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            #expect(try Base64.decode(Base64.encode(bytes)) == bytes, "seed \(seed)")
        }
        #expect(try Base64.decode("++//") == [0xfb, 0xef, 0xff])
    }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "Zm9vY", "=", "==", "===", "====", "Z===", "=Zg=", "Zg=v", "Zg==Zg==", "Zm8=Zm8=",
        "Zm9v\n", "Zm9\n", " Zm9", "Zm-_", "Zm9\u{e9}", "Zm9.",
        // The last character has bits set that belong to no byte.
        "Zh==", "Zv==", "Zm9=", "Zm+=",
    ])
    func anythingElseIsAnError(_ text: String) {
        let error = #expect(throws: CairnError.self) { try Base64.decode(text) }
        #expect(error?.code == .malformed)
    }

    @Test func everyAcceptedTextIsTheOneThatIsWritten() {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let alphabet = Array("ABQYwgv9+/==".utf8)
        var accepted = 0
        for _ in 0..<20_000 {
            let bytes = (0..<4).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
            let text = String(decoding: bytes, as: UTF8.self)
            guard let decoded = try? Base64.decode(text) else { continue }
            accepted += 1
            #expect(Base64.encode(decoded) == text, "seed \(seed)")
        }
        #expect(accepted > 1_000)
    }
}
