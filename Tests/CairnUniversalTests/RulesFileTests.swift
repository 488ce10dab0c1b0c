import CairnBase
import CairnLayout
import CairnTensor
import CairnUniversal
import Testing

/// Rules as YAML.
@Suite struct RulesFileTests {
    private func expect(
        _ yaml: String, _ parts: String..., location: SourceLocation = #_sourceLocation
    ) {
        do throws(CairnError) {
            _ = try UniversalSpec(yaml: yaml, file: "rules.yaml")
            Issue.record("it was accepted", sourceLocation: location)
        } catch {
            for part in parts where !"\(error)".contains(part) {
                Issue.record("\"\(part)\" is not in: \(error)", sourceLocation: location)
            }
        }
    }

    private let head = "cairn-rules: 1\nmesh: {tp: }\nrules:\n"

    @Test func everythingThatCanBeWrittenReadsBackTheSame() throws {
        var spec = try UniversalSpec(
            mesh: ["pp", .init("dp", size: 2), "tp"], parameters: ["layers": 4, "ffn": 8]
        ) {
            Moment(
                "m", from: "o.{fqn}", to: "p.{fqn}", scalarType: .f32, placement: [On("dp", .flatten(.buffer))],
                isOptional: true)
            FlatBuffer(
                "flat", over: "dp", arrangement: .group(alignment: 8, multiple: "2*dp.size"), isTrimmed: true,
                present: [.init("pp", on: [0, "pp.size - 1"])],
                members: [.init("a: b", ["ffn/tp.size", 3]), .init("c", [])])
            FlatBuffer("each", over: "dp", arrangement: .perTensor, members: [])
            Rule("one \"quoted\" \\ & é\n", from: ["a.{n:0..<4}", "b.{n:0..<4}"], to: "c.{n}") {
                On(
                    "tp",
                    .shard(
                        dimension: 1, division: .sizes([1, 2]), unit: "ffn", sections: .sizes([3, "ffn"]), repeats: 2))
                On("dp", .flatten(.cuts(start: 1, [0, "ffn", 9])))
                Apply(.fuse(dimension: 0, sizes: [1, 2], groups: "ffn"))
                Apply(.permute([1, 2, 0]))
                Apply(.cast(from: .bf16, to: .f32))
                Apply(.cast(to: .f32))
                Apply(.transpose)
                Apply(.strip(dimension: 0, extent: 3, multiple: 4))
                Apply(.pad(dimension: 0, extent: 3))
                WholeShape("ffn", 4)
                Except("a.3", "b.3")
                WithMoments(.only(["m"]))
            }
            Rule("stack", from: "s.{n}", to: "s") {
                On("tp", .shard(dimension: 0, division: .chunked, sections: .equal("ffn")))
                On("dp", .flatten(.equal(start: 0, size: 5)))
                Apply(.stack(axis: 0, slot: "n"))
                WithMoments(.none)
            }
            Rule("unstack", from: "u", to: "u.{e}") {
                On("tp", .partial(.mean))
                On("dp", .replicate)
                Apply(.unstack(axis: 0, slot: "e"))
            }
            Rule("tie", from: "t", to: "t") { Tied(to: "true") }.optional
            Rule.drop("drop", from: "**.x")
            Rule.drop("drop too", from: "**.y", moments: .all)
        }
        spec.summary = "# not a comment: \u{2028} 💥 \u{7f}"
        #expect(try UniversalSpec(yaml: spec.yaml) == spec, "\(spec.yaml)")
        let empty = UniversalSpec(axes: [])
        #expect(try UniversalSpec(yaml: empty.yaml) == empty)
    }

    @Test func unknownKeysAreNamedWithTheirLine() {
        expect("cairn-rules: 1\nrulez: []\n", "rules.yaml", "line 2", "\"rulez\"", "expected cairn-rules, summary")
        expect(head + "  - name: a\n    from: a\n    too: b\n", "line 6", "rules[0]", "\"too\"")
        expect(head + "  - {name: a, from: a, to: b, placement: [{tp: {shard: 0, unitt: 2}}]}", "line 4", "unitt")
        expect(head + "  - {name: a, from: a, to: b, transforms: [{spilt: {}}]}", "no such transform", "spilt")
        expect(head + "  - {name: a, from: a, to: b, transforms: [{split: {dimension: 0, part: 2}}]}", "\"part\"")
        expect(head + "  - {name: a, from: a, to: b, placement: [{tp: sharded}]}", "no such placement", "sharded")
        expect(head + "  - {name: a, from: a, to: b, placement: [{tp: {shard: 0}, dp: replicate}]}", "expected one key")
    }

    @Test func missingAndWrongValuesAreNamed() {
        expect("rules: []\n", "\"cairn-rules\" is missing")
        expect("cairn-rules: 2\nrules: []\n", "line 1", "version", "expected 1", "found 2")
        expect(head + "  - {name: a, to: b}\n", "rules[0]", "\"from\" is missing")
        expect(head + "  - {name: a, from: a, to: b, optional: yes}\n", "true or false")
        expect("cairn-rules: 1\nparameters: {n: 99999999999999999999}\nrules: []\n", "whole number")
        expect("cairn-rules: 1\nparameters: {n: 1e9}\nrules: []\n", "whole number")
        expect("cairn-rules: 1\nmesh: {tp: 0}\nrules: []\n", "size 0")
        expect(head + "  - {name: a, from: a, to: b, shape: [99999999999999999999]}\n", "line 4", "too large")
        expect(head + "  - {name: a, from: [[a]], to: b}\n", "expected text", "a list")
        expect(head + "  - text\n", "expected keys and values")
        expect("[]", "expected keys and values")
        expect("", "empty")
        expect(head + "  - {name: a, from: a, to: b, transforms: [{cast: {to: BF17}}]}", "element type", "BF17")
    }

    @Test func aKeyThatRepeatsIsRefused() {
        expect("cairn-rules: 1\nrules: []\nrules: []\n", "occurs twice")
    }

    @Test func brokenTextIsNamedWithItsLine() {
        expect("cairn-rules: 1\nrules: [\n", "line ")
        expect("cairn-rules: 1\n\trules: []\n", "line 2")
        expect("a: b\n---\nc: d\n", "document")
    }

    @Test(.timeLimit(.minutes(1))) func hostileTextEndsSoonWithAnError() {
        // Each line names the one before ten times.
        var bomb = "a0: &a0 [x, x]\n"
        for level in 1..<30 {
            bomb +=
                "a\(level): &a\(level) [" + [String](repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
                + "]\n"
        }
        expect(bomb, "line 1", "anchors")
        expect("cairn-rules: *x\n", "undefined alias")
        expect("\"#\" : &a [x]\n? [*a, *a]\n: 1\n", "line 1", "anchors")
        expect(String(repeating: "[", count: 100_000), "rules.yaml")
        expect(String(repeating: "{a: ", count: 5_000) + "b" + String(repeating: "}", count: 5_000), "rules.yaml")
        expect(String(repeating: "- ", count: 100_000) + "b", "rules.yaml")
        expect(String(repeating: "x", count: 5 << 20), "too long")
        let deep = String(repeating: "(", count: 5_000) + "1" + String(repeating: ")", count: 5_000)
        expect(head + "  - {name: a, from: a, to: b, shape: [\"\(deep)\"]}\n", "nested too deeply")
        let long = [String](repeating: "1", count: 100_000).joined(separator: "+")
        expect(head + "  - {name: a, from: a, to: b, shape: [\"\(long)\"]}\n", "too long")
        let many = String(repeating: "*.", count: 10_000)
        expect(head + "  - {name: a, from: \"\(many)\", to: b}\n", "too many fields")
    }

    @Test func theExampleOfTheDocumentationIsTheSameInBothNotations() throws {
        #expect(try UniversalSpec(yaml: documentedYAML) == documentedSpecification())
    }
}

let documentedYAML = """
    cairn-rules: 1
    parameters: {layers: 4, heads: 8, head_dim: 4, vocab: 90}
    mesh: {pp: , tp: }
    moments:
      - {name: exp_avg, from: "optimizer.exp_avg.{fqn}", to: "{fqn}.exp_avg", dtype: F32}
    rules:
      - name: embedding
        from: embedding.weight
        to: embed.weight
        placement:
          - pp: {present: [0]}
          - tp: {shard: 0}
        transforms:
          - strip: {dimension: 0, extent: vocab, multiple: 8*tp.size}
      - name: attention
        from: "layers.{n:0..<layers/pp.size}.qkv.weight"
        to:
          - "layers.{n + pp*layers/pp.size}.query"
          - "layers.{n + pp*layers/pp.size}.key"
          - "layers.{n + pp*layers/pp.size}.value"
        placement:
          - tp: {shard: 0, unit: 3*head_dim}
        transforms:
          - split: {dimension: 0, sizes: [head_dim, head_dim, head_dim], groups: heads}
      - name: scratch
        from: "**.scratch"
        drop: true
        optional: true
    """

func documentedSpecification() throws -> UniversalSpec {
    let layer = "layers.{n + pp*layers/pp.size}"
    return try UniversalSpec(
        mesh: ["pp", "tp"], parameters: ["layers": 4, "heads": 8, "head_dim": 4, "vocab": 90]
    ) {
        Moment("exp_avg", from: "optimizer.exp_avg.{fqn}", to: "{fqn}.exp_avg", scalarType: .f32)
        Rule("embedding", from: "embedding.weight", to: "embed.weight") {
            On("pp", .present(on: [0]))
            On("tp", .shard(0))
            Apply(.strip(dimension: 0, extent: "vocab", multiple: "8*tp.size"))
        }
        Rule(
            "attention", from: "layers.{n:0..<layers/pp.size}.qkv.weight",
            to: [layer + ".query", layer + ".key", layer + ".value"]
        ) {
            On("tp", .shard(0, unit: "3*head_dim"))
            Apply(.split(dimension: 0, sizes: ["head_dim", "head_dim", "head_dim"], groups: "heads"))
        }
        Rule.drop("scratch", from: "**.scratch").optional
    }
}
