import CairnBase
import CairnCheckpoint
import CairnTesting
import Testing

@Suite struct GlobPatternTests {
    @Test func wildcardsStandForWhatTheySay() throws {
        let cases: [(String, String, [String]?)] = [
            ("", "", []), ("", "a", nil), ("*", "", [""]), ("*", "a.b", ["a.b"]), ("a*", "b", nil),
            ("model.*.wq", "model.layers.3.wq", ["layers.3"]), ("model.*.wq", "model.wq", nil),
            ("*.*", "a.b.c", ["a", "b.c"]), ("*.weight", "a.weight.weight", ["a.weight"]), ("?", "é", ["é"]),
            ("?", "e\u{301}", nil), ("a?c", "abc", ["b"]), ("[0-9]", "7", ["7"]), ("[!0-9]", "7", nil),
            ("[^0-9]x", "ax", ["a"]), ("[]a]", "]", ["]"]), ("[a-]", "-", ["-"]), ("\\*", "*", []), ("\\*", "a", nil),
            ("**", "ab", ["", "ab"]), ("a*b*c", "aXbYbZc", ["X", "YbZ"]), ("*[0-9]*", "ab12", ["ab", "1", "2"]),
            ("é", "e\u{301}", nil), ("[\\]]", "]", ["]"]),
        ]
        for (pattern, name, captures) in cases {
            #expect(try GlobPattern(pattern).captures(name) == captures, "\(pattern) on \(name)")
        }
    }

    @Test func bracesGiveChoices() throws {
        let cases: [(String, String, [String]?)] = [
            ("layers.{8..11}.*", "layers.8.w", ["w"]), ("layers.{8..11}.*", "layers.11.w", ["w"]),
            ("layers.{8..11}.*", "layers.7.w", nil), ("layers.{8..11}.*", "layers.12.w", nil),
            ("layers.{8..11}.*", "layers.110.w", nil), ("{a,b}.{0,2..3}", "b.2..3", []), ("{a,b}.{0,2}", "a.2", []),
            ("{a,b}.{0,2}", "c.2", nil), ("x{,y}", "x", []), ("x{,y}", "xy", []), ("{a,b{1..2}}", "b2", []),
            ("{a,b{1..2}}", "b3", nil), ("{a}", "{a}", []), ("{a", "{a", []), ("a}", "a}", []), (#"\{a,b\}"#, "{a,b}", []),
            ("{3..3}", "3", []), ("[{,}]", ",", [","]), (#"{a\,b,c}"#, "a,b", []), ("{a*,b*}", "bx", ["x"]),
            ("{x..y}", "{x..y}", []),
        ]
        for (pattern, name, captures) in cases {
            #expect(try GlobPattern(pattern).captures(name) == captures, "\(pattern) on \(name)")
        }
    }

    @Test func patternsThatMeanNothingAreRefused() {
        for pattern in [
            "[", "[]", "[a", "[b-a]", "\\", "[!", "{9..8}", "{0..10000}", "{a*,b}", "{0..999}{0..999}", "{[,a}",
        ] {
            #expect(throws: CairnError.self, "\(pattern)") { try GlobPattern(pattern) }
        }
    }

    @Test func patternsAgreeWithASimpleMatcher() throws {
        func matches(_ pattern: Substring, _ name: Substring) -> Bool {
            guard let first = pattern.first else { return name.isEmpty }
            if first == "*" {
                return matches(pattern.dropFirst(), name) || (!name.isEmpty && matches(pattern, name.dropFirst()))
            }
            guard let character = name.first, first == "?" || first == character else { return false }
            return matches(pattern.dropFirst(), name.dropFirst())
        }
        var generator = SeededGenerator(seed: 3)
        func text(of characters: String, upTo count: Int) -> String {
            String(
                (0..<Int.random(in: 0...count, using: &generator)).map { _ in
                    characters.randomElement(using: &generator) ?? "a"
                })
        }
        for _ in 0..<5000 {
            let pattern = text(of: "ab*?", upTo: 7)
            let name = text(of: "ab", upTo: 8)
            let glob = try GlobPattern(pattern)
            #expect(glob.matches(name) == matches(pattern[...], name[...]), "\(pattern) on \(name)")
            guard let captures = glob.captures(name) else { continue }
            var rest = captures[...]
            let rebuilt = pattern.map { "*?".contains($0) ? rest.popFirst() ?? "missing" : String($0) }.joined()
            #expect(rebuilt == name, "\(pattern) on \(name)")
        }
    }

    @Test func manyRunsDoNotTakeForever() throws {
        let pattern = try GlobPattern(String(repeating: "a*", count: 50) + "b")
        #expect(!pattern.matches(String(repeating: "a", count: 5000)))
    }

    @Test func replacementsTakeWhatTheWildcardsStandFor() throws {
        func rename(_ pattern: String, _ replacement: String, _ name: String) throws -> String? {
            try RenameRule(pattern, to: replacement).apply(to: name)
        }
        #expect(try rename("model.*.wq", "layers.$1.attention.query", "model.3.wq") == "layers.3.attention.query")
        #expect(try rename("*.?", "${2}1.$1$$", "a.b") == "b1.a$")
        #expect(try rename("a", "b", "c") == nil)
        #expect(try rename("a.*", #"b\*.$1\"#, "a.c") == #"b*.c\"#, "an asterisk that is meant")
        for replacement in ["$", "$2", "$0", "$x", "${1", "$99999999999999999999", "*", "a.*"] {
            #expect(throws: CairnError.self, "\(replacement)") { try RenameRule("*", to: replacement) }
        }
        #expect(throws: CairnError.self) { try RenameRule("a", to: "$1") }
    }
}
