import CairnBase
import CairnMerge
import Testing

/// Patterns of modules beside what Python's `re` says of them.
@Suite struct ModulePatterns {
    @Test(
        arguments: [
            (#"q_proj"#, "model.layers.0.self_attn.q_proj", true, false),
            (#"proj"#, "a.q_proj", false, false),
            (#"q_proj"#, "q_proj", true, true),
            (#"layers.0.q"#, "layers.0.q", true, true),
            (#"^model.q"#, "model.q", true, true),
            (#"^q"#, "model.q", false, false),
            (#"^model.q"#, "x.model.q", false, false),
            (#"a|b"#, "x.b", true, false),
            (#"a|b"#, "xb", false, false),
            (#".*\.layers\.1\..*(q_proj|k_proj)$"#, "model.layers.1.a.k_proj", true, true),
            (#".*\.layers\.1\..*(q_proj|k_proj)$"#, "model.layers.11.a.k_proj", false, false),
            (#"[a-c]+\d{2}"#, "m.abc12", true, false),
            (#"[a-c]+\d{2}"#, "m.abc123", false, false),
            (#"x{,2}y"#, "xxy", true, true),
            (#"x{,2}y"#, "xxxy", false, false),
            (#"x{2,}y"#, "xxxxy", true, true),
            (#"a{b"#, "a{b", true, true),
            (#"(?!.*\.0\.).*q"#, "m.1.q", true, true),
            (#"(?!.*\.0\.).*q"#, "m.0.q", true, false),
            (#"(?=m)..q"#, "m.q", true, true),
            (#"\bq\b"#, "m.q", true, false),
            (#"\Bq"#, "mq", false, false),
            (#"[^.]+"#, "a.b", true, false),
            (#"[\d]{1,}"#, "a.12", true, false),
            (#"(?P<n>q|k)_proj"#, "k_proj", true, true),
            (#"q.*?"#, "m.qqq", true, false),
            (#"(a*)*b"#, "aaab", true, true),
            (#"(a|aa)+$"#, "aaaaa", true, true),
            (#"\w+"#, "a.bß", true, false),
            (#"\S+"#, "a b", false, false),
            (#"[]x]"#, "m.]", true, false),
            (#"[x-]"#, "m.-", true, false),
            (#"q\."#, "q.", true, true),
            (#""#, "m.", true, false),
            (#""#, "m", false, false),
            (#"\Aq\Z"#, "q", true, true),
            (#"()q"#, "q", true, true),
            (#"(?:)"#, "a.", true, false),
            (#"q$"#, "m.q", true, false),
            (#"q$."#, "m.q", false, false),
            (#"[^a-m]+"#, "m.nop", true, false),
            (#"\D"#, "m.1", false, false),
            (#"a?a?aa"#, "m.aa", true, false),
        ])
    func fitAsInPython(_ pattern: String, _ name: String, _ fitsEnd: Bool, _ fitsWhole: Bool) throws {
        let read = try ModulePattern(pattern)
        #expect(read.fitsEnd(ModuleName(name)) == fitsEnd, "\(pattern) at the end of \(name)")
        #expect(read.fitsWhole(ModuleName(name)) == fitsWhole, "\(pattern) for \(name)")
    }

    @Test(arguments: ["(", "a)", "[a", "*a", "a**", "x{3,1}", "[z-a]", "\\", "(?P<a"])
    func whatPythonRefusesIsRefused(_ pattern: String) {
        let error = #expect(throws: CairnError.self) { try ModulePattern(pattern) }
        #expect(error?.code == .malformed)
    }

    @Test(arguments: [#"(a)\1"#, "(?i)a", "(?<=a)b", "(?<!a)b", "(?>a)", "a++", #"\q"#, "a{2000}", "(?a:b)"])
    func whatIsNotFollowedIsRefused(_ pattern: String) {
        let error = #expect(throws: CairnError.self) { try ModulePattern(pattern) }
        #expect(error?.code == .unsupported)
        #expect("\(error.map { "\($0)" } ?? "")".contains(pattern.debugDescription))
    }

    /// Followed one way after the other this takes longer than anyone would wait.
    @Test(.timeLimit(.minutes(1))) func noPatternTakesLong() throws {
        let pattern = try ModulePattern("(a+)+(a*)*(a|a|aa)*b")
        #expect(!pattern.fitsEnd(ModuleName(String(repeating: "a", count: 60))))
        #expect(throws: CairnError.self) { try ModulePattern(String(repeating: "(", count: 5000)) }
    }
}
