import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor
import CairnTesting
import CairnUniversal
import Testing

/// One tensor that becomes several equal ones.
@Suite struct CopyTests {
    private func dense() throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: 7)
        var checkpoint = MemoryCheckpoint()
        try checkpoint.add("a.w", .f32, [6, 2], using: &generator)
        try checkpoint.add("m.a.w", .f32, [6, 2], using: &generator)
        return checkpoint
    }

    private func specification(parts: Int) throws -> UniversalSpec {
        try UniversalSpec(mesh: [], parameters: ["experts": 6, "parts": parts]) {
            Moment("m", from: "m.{fqn}", to: "m.{fqn}")
            Rule("experts", from: "{x}.w", to: "{x}.{e}.w") {
                Apply(.copy(slot: "e", count: "experts", parts: "parts"))
            }
        }
    }

    @Test(arguments: [1, 2, 3])
    func theFirstCopyOfEachPartIsATensorAndTheOthersAreTiedToIt(parts: Int) throws {
        let dense = try dense()
        let gathered = try GatheredReader([dense], spec: specification(parts: parts))
        #expect(gathered.tensors.count == 12)
        let rows = 6 / parts
        for prefix in ["", "m."] {
            for copy in 0..<6 {
                let description = try gathered.description(of: "\(prefix)a.\(copy).w")
                #expect(description.shape == [rows, 2])
                #expect(description.tiedTo == (copy < parts ? nil : "\(prefix)a.\(copy % parts).w"))
                let region = try Region(offsets: [copy % parts * rows, 0], shape: [rows, 2])
                let expected = try Tensor(.f32, [rows, 2]) {
                    try dense.read("\(prefix)a.w", region: region, into: &$0)
                }
                #expect(try gathered.tensor("\(prefix)a.\(copy).w") == expected)
            }
        }
    }

    /// Only with losses allowed: what were copies may differ.
    @Test func theWayBackTakesTheFirstCopies() throws {
        let dense = try dense()
        for parts in [1, 3] {
            let spec = try specification(parts: parts)
            let gathered = try GatheredReader([dense], spec: spec)
            let error = #expect(throws: CairnError.self) { try ShardedCheckpoint(gathered, spec: spec) }
            #expect(error?.code == .unsupported)
            let back = try ShardedCheckpoint(gathered, spec: spec, allowsLosses: true).shard(ofRank: 0)
            #expect(back.tensors.map(\.name) == ["a.w", "m.a.w"])
            for name in ["a.w", "m.a.w"] { #expect(try back.tensor(name) == dense.tensor(name)) }
            #expect(try spec.oneWayRules().count == 1)
        }
    }

    @Test func copiesAreWrittenAndReadAsRules() throws {
        let spec = try specification(parts: 3)
        #expect(try UniversalSpec(yaml: spec.yaml) == spec)
        #expect(spec.yaml.contains("copy: {slot: e, count: experts, parts: parts}"), "\(spec.yaml)")
        let explanation = try spec.explain([try dense()])
        #expect(explanation.problems.isEmpty)
        #expect(explanation.applications.first?.logical.map(\.tiedTo) == [nil, nil, nil, "a.0.w", "a.1.w", "a.2.w"])
    }

    @Test func copiesThatCannotBeAreRefused() throws {
        for (count, parts, slot) in [(6, 4, "e"), (0, 1, "e"), (1 << 40, 1, "e"), (6, 1, "x"), (6, 0, "e")] {
            let error = #expect(throws: CairnError.self) {
                let spec = try UniversalSpec(mesh: []) {
                    Rule("experts", from: "{x}.w", to: "{x}.{e}.w") {
                        Apply(
                            .copy(
                                slot: slot, count: IntegerExpression("\(count)"),
                                parts: IntegerExpression("\(parts)")))
                    }
                    Rule.drop("rest", from: "m.**")
                }
                _ = try GatheredReader([try dense()], spec: spec)
            }
            #expect(error != nil, "\(count) \(parts) \(slot)")
        }
    }
}
