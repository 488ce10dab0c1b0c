import CairnBase
import CairnTesting
import Testing

/// Random trees, and texts cut and changed at random: an error or a value, never a trap.
@Suite struct JSONRobustnessTests {
    private static let document = Array(
        #"""
        {"__metadata__": {"format": "pt", "é\u00e9\ud83d\ude00": "\"\\\n😀"}, "w": {"dtype": "BF16", "shape":
        [2, 3], "data_offsets": [0, 18446744073709551615]},
        "x": [-1.5e-3, 0, true, false, null, [[], {}]], "last": -0.0}
        """#.utf8)

    /// What a text is to the two readers that see all of it; they must agree on whether it is JSON.
    private func read(_ bytes: [UInt8]) -> Result<JSONValue, JSONError> {
        let tree = Result { () throws(JSONError) in try JSONValue(parsing: bytes) }
        let skipped = Result { () throws(JSONError) in
            var reader = JSONReader(bytes.span)
            try reader.skipValue()
            try reader.finish()
        }
        switch (tree, skipped) {
        case (.success, .failure(let error)):
            Issue.record("skipping failed where parsing did not: \(error), \(String(decoding: bytes, as: UTF8.self))")
        case (.failure(let error), .success)
        where !error.message.contains("repeats")
            && !error.message.contains("out of range"):
            Issue.record("parsing failed where skipping did not: \(error), \(String(decoding: bytes, as: UTF8.self))")
        case (.failure(let error), _):
            #expect((0...bytes.count).contains(error.offset ?? -1))
        default: break
        }
        return tree
    }

    @Test func aTextCutAnywhereIsAnError() throws {
        _ = try read(Self.document).get()
        for length in 0..<Self.document.count {
            guard case .failure = read(Array(Self.document[..<length])) else {
                Issue.record("the first \(length) bytes were accepted")
                continue
            }
        }
    }

    @Test func aTextWithOneByteChangedIsAnErrorOrAValue() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for index in Self.document.indices {
            for _ in 0..<40 {
                var changed = Self.document
                changed[index] = UInt8.random(in: 0...255, using: &generator)
                guard case .success(let value) = read(changed) else { continue }
                accepted += 1
                #expect(throws: Never.self, "seed \(seed), offset \(index), byte \(changed[index])") {
                    let written = try write(value, style: .compact)
                    #expect(try write(JSONValue(parsing: written), style: .compact) == written)
                }
            }
        }
        #expect(accepted > 0)
    }

    @Test func bytesOfJSONInRandomOrderAreAnErrorOrAValue() {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let alphabet = Array("[]{},:\"\\u0019.eE+- \ntrufalsn\u{e9}".utf8) + [0x00, 0xff]
        for _ in 0..<20_000 {
            let length = Int.random(in: 0...12, using: &generator)
            _ = read((0..<length).map { _ in alphabet.randomElement(using: &generator) ?? 0 })
        }
    }

    @Test(arguments: [JSONWriter.Style.compact, .pretty(maximumInlineWidth: 0), .pretty(maximumInlineWidth: 40)])
    func randomTreesAreReadBackAsWritten(_ style: JSONWriter.Style) throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<500 {
            let value = randomValue(depth: 5, &generator)
            let written = try write(value, style: style)
            let back = try read(written).get()
            #expect(back == value, "seed \(seed)")
            // Tells -0.0 from 0.0, and canonically equivalent strings apart, which == does not.
            #expect(try write(back, style: style) == written, "seed \(seed)")
        }
    }

    private func write(_ value: JSONValue, style: JSONWriter.Style) throws -> [UInt8] {
        var writer = JSONWriter(style: style)
        try writer.write(value)
        return writer.finish()
    }

    private func randomValue(depth: Int, _ generator: inout SeededGenerator) -> JSONValue {
        switch Int.random(in: 0..<(depth > 0 ? 9 : 7), using: &generator) {
        case 0: return .null
        case 1: return .bool(.random(using: &generator))
        case 2:
            let shift = Int64.random(in: 0..<64, using: &generator)
            return .integer(.random(in: .min ... .max, using: &generator) >> shift)
        case 3: return JSONValue(.random(in: 0 ... .max, using: &generator))
        case 4, 5:
            let value = Double(bitPattern: .random(in: 0 ... .max, using: &generator))
            return .double(value.isFinite ? value : -0.0)
        case 6: return .string(randomString(&generator))
        case 7:
            let count = Int.random(in: 0...6, using: &generator)
            return .array((0..<count).map { _ in randomValue(depth: depth - 1, &generator) })
        default:
            var object = JSONObject()
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                object[randomString(&generator)] = randomValue(depth: depth - 1, &generator)
            }
            return .object(object)
        }
    }

    private func randomString(_ generator: inout SeededGenerator) -> String {
        var text = String.UnicodeScalarView()
        let limits: [UInt32] = [0x20, 0x7f, 0x80, 0x800, 0x1_0000, 0x11_0000]
        for _ in 0..<Int.random(in: 0...20, using: &generator) {
            let limit = limits.randomElement(using: &generator) ?? 0x80
            text.append(Unicode.Scalar(UInt32.random(in: 0..<limit, using: &generator)) ?? "\u{fffd}")
        }
        return String(text)
    }
}
