import CairnBase
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

/// Specifications as files.
@Suite struct PermutationFiles {
    private static func read(_ text: String) throws(CairnError) -> PermutationSpec {
        try PermutationSpec(json: Array(text.utf8), file: "units.json")
    }

    @Test func everyPartIsReadAsItIsWritten() throws {
        let spec = try Self.read(
            """
            {
              "schema": "cairn-permutations/1",
              "axes": {
                "up.weight": ["hidden", null],
                "qkv.weight": [{"label": "heads", "width": 4, "repeats": 3}, "residual"],
                "output.weight": [null, {"label": "heads", "width": 4}],
                "scalar": []
              },
              "stacks": {"experts": [["e.0.w", "e.1.w"], ["e.0.b", "e.1.b"]]}
            }
            """)
        #expect(
            spec
                == PermutationSpec(
                    axes: [
                        "up.weight": [.init("hidden"), nil],
                        "qkv.weight": [.init("heads", width: 4, repeats: 3), .init("residual")],
                        "output.weight": [nil, .init("heads", width: 4)], "scalar": [],
                    ], stacks: ["experts": [["e.0.w", "e.1.w"], ["e.0.b", "e.1.b"]]]))
        #expect(spec.labels == ["experts", "heads", "hidden", "residual"])
    }

    @Test func whatIsWrittenIsReadAgain() throws {
        for seed in 0..<40 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            func word(_ stem: String) -> String {
                stem + ["", " ", "\"", "\\", "é", "\n", ".weight"].randomElement(using: &generator)!
                    + "\(Int.random(in: 0..<50, using: &generator))"
            }
            var spec = PermutationSpec()
            for _ in 0...Int.random(in: 0..<6, using: &generator) {
                spec.axes[word("tensor")] = (0..<Int.random(in: 0..<4, using: &generator)).map { _ in
                    guard Bool.random(using: &generator) else { return nil }
                    return .init(
                        word("label"), width: Int.random(in: 1..<4, using: &generator),
                        repeats: Int.random(in: 1..<4, using: &generator))
                }
            }
            for stack in 0..<Int.random(in: 0..<3, using: &generator) {
                let count = Int.random(in: 1..<4, using: &generator)
                spec.stacks["stack \(stack)"] = (0..<2).map { list in (0..<count).map { "\(stack) \(list) \($0)" } }
            }
            let again = try PermutationSpec(json: spec.json, file: "units.json")
            #expect(again == spec, "seed \(seed)")
            #expect(again.json == spec.json, "seed \(seed)")
        }
    }

    @Test(arguments: [
        ("", "offset"), ("[]", "object"), ("{}", "schema"), (#"{"schema": 1}"#, "schema"),
        (#"{"schema": "cairn-permutations/1"}"#, "names no tensor"),
        (#"{"schema": "cairn-permutations/1", "axis": {}}"#, #""axis""#),
        (#"{"schema": "cairn-permutations/1", "axes": []}"#, "axes"),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": null}}"#, #""w""#),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [1]}}"#, #"axis 0 of the tensor "w""#),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [null, ""]}}"#, #"axis 1 of the tensor "w""#),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [{"width": 2}]}}"#, "label"),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [{"label": "h", "width": 0}]}}"#, "at least 1"),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [{"label": "h", "repeats": -3}]}}"#, "at least 1"),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [{"label": "h", "width": 2.5}]}}"#, "width"),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": [{"label": "h", "heads": 2}]}}"#, #""heads""#),
        (#"{"schema": "cairn-permutations/1", "axes": {"w": ["h"], "w": ["h"]}}"#, #""w""#),
        (#"{"schema": "cairn-permutations/1", "stacks": {"e": []}}"#, #"stack "e""#),
        (#"{"schema": "cairn-permutations/1", "stacks": {"e": [[]]}}"#, #"stack "e""#),
        (#"{"schema": "cairn-permutations/1", "stacks": {"e": [["a"], ["b", "c"]]}}"#, #"stack "e""#),
        (#"{"schema": "cairn-permutations/1", "stacks": {"e": [["a", 1]]}}"#, #"stack "e""#),
        (#"{"schema": "cairn-permutations/1", "stacks": {"e": [["a", "b"]], "f": [["b", "c"]]}}"#, #""b""#),
    ]) func whatIsNoSpecificationIsRefused(text: String, hint: String) throws {
        let error = try #require(throws: CairnError.self) { try Self.read(text) }
        #expect(error.code == .malformed && error.context.file == "units.json", "\(error)")
        #expect("\(error)".contains(hint), "\(error)")
    }

    @Test func anotherSchemaIsNotGuessedAt() throws {
        let error = try #require(throws: CairnError.self) {
            try Self.read(#"{"schema": "cairn-permutations/2", "axes": {"w": ["h"]}}"#)
        }
        #expect(error.code == .unsupported && "\(error)".contains("cairn-permutations/1"), "\(error)")
    }

    /// Nesting and sizes from outside must not end the process.
    @Test func hostileDocumentsAreErrors() throws {
        for text in [
            String(repeating: "[", count: 100_000), #"{"schema": "cairn-permutations/1", "axes": {"w": "#,
            #"{"schema": "cairn-permutations/1", "axes": {"w": [{"label": "h", "width": 9223372036854775808}]}}"#,
        ] {
            #expect(throws: CairnError.self) { try Self.read(text) }
        }
        let spec = try Self.read(
            """
            {
              "schema": "cairn-permutations/1",
              "axes": {"w": [{"label": "h", "width": 9223372036854775807, "repeats": 9}]}
            }
            """)
        var random = RandomTensors(seed: 1)
        var network = MemoryCheckpoint(isMapped: true)
        network.add("w", try random.tensor([4]))
        let error = try #require(throws: CairnError.self) { try spec.unitCounts(in: network) }
        #expect(error.code == .mismatch && error.context.tensor == "w", "\(error)")
    }
}
