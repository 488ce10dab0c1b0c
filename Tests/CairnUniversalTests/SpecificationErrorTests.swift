import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnUniversal
import Testing

/// Every way in which rules and shards do not fit, and what is said of it.
@Suite struct SpecificationErrorTests {
    /// Calls `body` and expects an error whose text holds every one of `parts`.
    private func expect(
        _ parts: String..., code: CairnError.Code? = nil, from body: () throws -> Void,
        location: SourceLocation = #_sourceLocation
    ) {
        do {
            try body()
            Issue.record("it was accepted", sourceLocation: location)
        } catch {
            let text = "\(error)"
            for part in parts where !text.contains(part) {
                Issue.record("\"\(part)\" is not in: \(text)", sourceLocation: location)
            }
            if let code { #expect((error as? CairnError)?.code == code, sourceLocation: location) }
        }
    }

    private func tensors(_ shapes: KeyValuePairs<String, Shape>, _ type: ScalarType = .f32) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        for (name, shape) in shapes { checkpoint.add(name, try Tensor(zeros: type, shape)) }
        return checkpoint
    }

    @Test func unclaimedTensorsAreCountedAndTheFirstTwentyListed() throws {
        var checkpoint = try tensors(["a": [1]])
        for index in 10..<40 { checkpoint.add("extra.\(index)", try Tensor(zeros: .f32, [1])) }
        let spec = try UniversalSpec(mesh: []) { Rule("a", from: "a", to: "a") }
        expect("no rule claims 30 foreign tensors", "extra.10, extra.11", "extra.29, …", code: .mismatch) {
            _ = try GatheredReader([checkpoint], spec: spec)
        }
        let mesh = try UniversalSpec(mesh: ["tp"]) { Rule("a", from: "a", to: "a") }
        let plain = try tensors(["a": [1]])
        expect("no rule claims 30 foreign tensors", "tensor \"extra.10\"", "rank 1") {
            _ = try GatheredReader([plain, checkpoint], spec: mesh)
        }
        expect("no rule claims 30 logical tensors", "extra.29") { _ = try ShardedCheckpoint(checkpoint, spec: spec) }
    }

    @Test func aTensorOfTwoRulesIsNamedWithBoth() throws {
        let spec = try UniversalSpec(mesh: []) {
            Rule("one", from: "a.{x}", to: "a.{x}")
            Rule("other", from: "{y}.b", to: "{y}.b")
        }
        let source = try tensors(["a.b": [1], "a.c": [1], "c.b": [1]])
        expect("two rules claim one tensor", "rule \"one\" and rule \"other\"", "tensor \"a.b\"", "rank 0") {
            _ = try GatheredReader([source], spec: spec)
        }
    }

    @Test func aRuleThatMatchesNothingIsNamedUnlessItIsOptional() throws {
        let source = try tensors(["a": [1]])
        var spec = try UniversalSpec(mesh: []) {
            Rule("a", from: "a", to: "a")
            Rule("absent", from: "b.{n}", to: "b.{n}")
        }
        expect("rule \"absent\": it matches nothing", "b.{n}", code: .notFound) {
            _ = try GatheredReader([source], spec: spec)
        }
        expect("rule \"absent\": it matches nothing") { _ = try ShardedCheckpoint(source, spec: spec) }
        spec.rules[1].isOptional = true
        #expect(try GatheredReader([source], spec: spec).tensors.count == 1)
        #expect(try ShardedCheckpoint(source, spec: spec).shard(ofRank: 0).tensors.count == 1)
    }

    @Test func shapesThatDoNotAgreeWithThePlacementAreRefused() throws {
        let sharded = try UniversalSpec(mesh: ["tp"]) { Rule("w", from: "w", to: "w") { On("tp", .shard(0)) } }
        expect("rule \"w\"", "tensor \"w\"", "rank", "[3, 4]") {
            _ = try GatheredReader([tensors(["w": [3, 4]]), tensors(["w": [5, 4]])], spec: sharded)
        }
        expect("another shape", "[2, 5]") {
            _ = try GatheredReader([tensors(["w": [2, 4]]), tensors(["w": [2, 5]])], spec: sharded)
        }
        expect("a rank lacks a tensor", "rank 1", "present") {
            _ = try GatheredReader([tensors(["w": [2, 4]]), MemoryCheckpoint()], spec: sharded)
        }
        expect("different element types", "rank 1", "BF16") {
            _ = try GatheredReader([tensors(["w": [2]]), tensors(["w": [2]], .bf16)], spec: sharded)
        }
        expect("shards a dimension that the tensor lacks") {
            let spec = try UniversalSpec(mesh: ["tp"]) { Rule("w", from: "w", to: "w") { On("tp", .shard(2)) } }
            _ = try GatheredReader([tensors(["w": [2]]), tensors(["w": [2]])], spec: spec)
        }
        let staged = try UniversalSpec(mesh: ["pp"]) { Rule("w", from: "w", to: "w") { On("pp", .present(on: [0])) } }
        expect("by the placement it does not hold", "rank 1") {
            _ = try GatheredReader([tensors(["w": [2]]), tensors(["w": [2]])], spec: staged)
        }
        let indivisible = try tensors(["w": [3, 4]])
        expect("dimension 0", "[3, 4]") { _ = try ShardedCheckpoint(indivisible, spec: sharded, mesh: ["tp": 2]) }
    }

    @Test func partsThatDoNotMakeUpTheirTensorAreRefused() throws {
        let source = try tensors(["w": [10, 2]])
        expect("the parts do not make up", "2 * (3 + 1) = 8", "extent 10") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "w", to: ["a", "b"]) { Apply(.split(dimension: 0, sizes: [3, 1], groups: 2)) }
            }
            _ = try GatheredReader([source], spec: spec)
        }
        expect("equal parts", "multiple of 1 * 3") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "w", to: ["a", "b", "c"]) { Apply(.split(dimension: 0)) }
            }
            _ = try GatheredReader([source], spec: spec)
        }
        expect("fused differ", "[10, 2]") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: ["w", "v"], to: "x") { Apply(.fuse(dimension: 0)) }
            }
            _ = try GatheredReader([tensors(["w": [10, 2], "v": [10, 3]])], spec: spec)
        }
        expect("padded dimension has another extent", "12") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "w", to: "w") { Apply(.strip(dimension: 0, extent: 9, multiple: 4)) }
            }
            _ = try GatheredReader([source], spec: spec)
        }
        expect("a foreign tensor that the logical one is made of is missing", "part.{n}.b") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: ["part.{n}.a", "part.{n}.b"], to: "x.{n}") { Apply(.fuse(dimension: 0)) }
            }
            _ = try GatheredReader([tensors(["part.0.a": [1]])], spec: spec)
        }
        expect("is missing", "slot 1") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "l.{n}", to: "l") { Apply(.stack(axis: 0, slot: "n")) }
            }
            _ = try GatheredReader([tensors(["l.0": [1], "l.2": [1]])], spec: spec)
        }
    }

    @Test func replicasAndTiesAreComparedWhenAsked() throws {
        var first = MemoryCheckpoint(), second = MemoryCheckpoint()
        first.add("w", Tensor([1, 2, 3] as [Float]))
        second.add("w", Tensor([1, 2, 4] as [Float]))
        let spec = try UniversalSpec(mesh: ["dp"]) { Rule("w", from: "w", to: "w") }
        let trusting = try GatheredReader([first, second], spec: spec)
        #expect(try [[1, 2, 3], [1, 2, 4]].contains(trusting.tensor("w").elements(as: Float.self)))
        let careful = try GatheredReader([first, second], spec: spec, verifiesReplicas: true)
        expect("replicas of a tensor differ", "bits of rank", "tensor \"w\"", "partial") { _ = try careful.tensor("w") }
        let tied = try UniversalSpec(mesh: []) {
            Rule("w", from: "w", to: "w")
            Rule("head", from: "head", to: "head") { Tied(to: "w") }
        }
        first.add("head", Tensor([1, 2, 9] as [Float]))
        let gathered = try GatheredReader([first], spec: tied, verifiesReplicas: true)
        #expect(gathered.tensors.map(\.tiedTo) == ["w", nil])
        expect("a tied tensor differs", "head") { _ = try gathered.tensor("w") }
        first = MemoryCheckpoint(["head": Tensor([1, 2, 9] as [Float])])
        expect("tied to is not there") {
            var optional = tied
            optional.rules[0].isOptional = true
            _ = try GatheredReader([first], spec: optional)
        }
    }

    @Test func aTieToATieIsRefused() throws {
        let source = try tensors(["w": [2], "v": [2]])
        expect("tied to one that is tied itself", "rule \"w\"", "tensor \"w\"") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "w", to: "w") { Tied(to: "w") }
                Rule("v", from: "v", to: "v")
            }
            _ = try GatheredReader([source], spec: spec)
        }
        expect("tied to one that is tied itself", "1 more problem") {
            let spec = try UniversalSpec(mesh: []) {
                Rule("w", from: "w", to: "w") { Tied(to: "v") }
                Rule("v", from: "v", to: "v") { Tied(to: "w") }
            }
            _ = try GatheredReader([source], spec: spec)
        }
    }

    /// Numbers in rules and in names, as large as they can be.
    @Test func noNumberIsTooLargeToBeRefused() throws {
        let largest = "\(Int.max)"
        let stacked = try UniversalSpec(mesh: []) {
            Rule("l", from: "l.{n}", to: "l") { Apply(.stack(axis: 0, slot: "n")) }
        }
        expect("too many slots", "rule \"l\"", largest) {
            _ = try GatheredReader([tensors(["l.0": [1], "l.9223372036854775807": [1]])], spec: stacked)
        }
        let unstacked = try UniversalSpec(mesh: []) {
            Rule("l", from: "l", to: "l.{n}") { Apply(.unstack(axis: 0, slot: "n")) }
        }
        expect("too many slots", "rule \"l\"", largest) {
            _ = try ShardedCheckpoint(tensors(["l.0": [1], "l.9223372036854775807": [1]]), spec: unstacked)
        }
        let members = [FlatBuffer.Member("a", ["9223372036854775807"]), FlatBuffer.Member("b", [7])]
        let buffers = try UniversalSpec(mesh: ["dp"]) {
            FlatBuffer("flat", over: "dp", arrangement: .perTensor, members: members)
            Rule("all", from: "{x}", to: "{x}")
        }
        expect("flat buffer \"flat\"", "overflows", "rank 0") {
            _ = try GatheredReader([tensors(["flat": [6]])], spec: buffers, mesh: ["dp": 1])
        }
    }

    @Test func whatIsOneWaySaysSoWhenItIsToBeSharded() throws {
        let logical = try tensors(["w": [4], "kept": [4]])
        let spec = try UniversalSpec(mesh: ["dp"]) {
            Rule("mean", from: "w", to: "w") { On("dp", .partial(.mean)) }
            Rule("kept", from: "kept", to: "kept") { Apply(.cast(from: .f32, to: .f32)) }
            Rule.drop("noise", from: "noise.**")
        }
        expect("rule \"mean\"", "one direction only", "mean over \"dp\"", "1 more problem", code: .unsupported) {
            _ = try ShardedCheckpoint(logical, spec: spec, mesh: ["dp": 2])
        }
        #expect(try spec.oneWayRules().count == 2)
        let lossy = try ShardedCheckpoint(logical, spec: spec, mesh: ["dp": 2], allowsLosses: true)
        #expect(try lossy.shard(ofRank: 1).tensors.map(\.name) == ["kept", "w"])
        let narrowing = try UniversalSpec(mesh: []) {
            Rule("w", from: "w", to: "w") { Apply(.cast(from: .f32, to: .bf16)) }
        }
        #expect(try narrowing.oneWayRules() == ["rule \"w\": the cast from F32 to BF16 may lose bits"])
        let shifted = try UniversalSpec(mesh: ["pp"]) { Rule("l", from: "l.{n}", to: "l.{n + 2*pp}") }
        #expect(try shifted.oneWayRules().first?.contains("{n:0..<4}") == true)
    }

    @Test func ruleForGatheringOnlyIsSkippedWhenSharding() throws {
        let spec = try UniversalSpec(mesh: []) {
            Rule("new", from: "new.{n}", to: "w.{n}").optional
            Rule("old", from: "old_{n}", to: "w.{n}").forGatheringOnly
        }
        let old = try tensors(["old_1": [3], "old_2": [2]])
        let gathered = try GatheredReader([old], spec: spec)
        #expect(gathered.tensors.map(\.name) == ["w.1", "w.2"])
        let sharded = try ShardedCheckpoint(gathered, spec: spec)
        #expect(try sharded.shard(ofRank: 0).tensors.map(\.name) == ["new.1", "new.2"])
        #expect(try spec.oneWayRules() == ["rule \"old\": it is unite-only: another rule writes its names"])
        #expect(try UniversalSpec(yaml: spec.yaml) == spec)
        // Both spellings at once would be one tensor made twice.
        expect("made twice", "rule \"new\" and rule \"old\"", "w.1") {
            _ = try GatheredReader([tensors(["old_1": [3], "new.1": [3]])], spec: spec)
        }
        var alone = spec
        alone.rules.removeFirst()
        expect("no rule claims 2 logical tensors") { _ = try ShardedCheckpoint(gathered, spec: alone) }
    }

    @Test func momentsThatAreMissingOrOfAnotherTypeAreNamed() throws {
        let spec = try UniversalSpec(mesh: []) {
            Moment("exp_avg", from: "optimizer.exp_avg.{fqn}", to: "optimizer.exp_avg.{fqn}", scalarType: .f32)
            Rule("w", from: "w.{n}", to: "weight.{n}")
        }
        let whole = try tensors(["w.0": [1], "optimizer.exp_avg.w.0": [1]])
        #expect(
            try GatheredReader([whole], spec: spec).tensors.map(\.name) == ["optimizer.exp_avg.weight.0", "weight.0"])
        expect("rule \"w\" (exp_avg)", "1 of 2 parameters lack the moment", "optimizer.exp_avg.weight.1") {
            _ = try GatheredReader(
                [tensors(["w.0": [1], "w.1": [1], "optimizer.exp_avg.w.0": [1]])], spec: spec)
        }
        expect("another element type", "F32", "BF16") {
            _ = try GatheredReader([tensors(["w.0": [1], "optimizer.exp_avg.w.0": [1]], .bf16)], spec: spec)
        }
    }

    @Test func twoTensorsThatWouldBecomeOneAreNamed() throws {
        let spec = try UniversalSpec(mesh: []) {
            Rule("one", from: "a", to: "x")
            Rule("other", from: "b", to: "x")
        }
        expect("one logical tensor is made twice", "rule \"one\" and rule \"other\"", "tensor \"x\"") {
            _ = try GatheredReader([tensors(["a": [1], "b": [1]])], spec: spec)
        }
        let same = try UniversalSpec(mesh: []) { Rule("r", from: "l.{a:0..<9}.{b:0..<9}", to: "x.{a + b}") }
        expect("two tensors of one rank would be the same logical one", "l.0.1") {
            _ = try GatheredReader([tensors(["l.0.1": [1], "l.1.0": [1]])], spec: same)
        }
    }

    @Test func aMeshOfAnotherSizeIsRefused() throws {
        let spec = try UniversalSpec(mesh: ["dp", "tp"]) { Rule("w", from: "w", to: "w") }
        let source = try tensors(["w": [1]])
        expect("no size", "dp=1") { _ = try GatheredReader([source, source], spec: spec) }
        expect("another number of ranks") { _ = try GatheredReader([source], spec: spec, mesh: ["dp": 2, "tp": 1]) }
        expect("no mesh axis \"pp\"") { _ = try GatheredReader([source], spec: spec, mesh: ["pp": 1, "dp": 1]) }
        #expect(try GatheredReader([source, source], spec: spec, mesh: ["dp": 1]).mesh.size(of: "tp") == 2)
    }

    @Test func rulesThatMakeNoSenseAreRefusedBeforeAnyCheckpoint() {
        func refuse(
            _ parts: String..., rule: @autoclosure () -> Rule, location: SourceLocation = #_sourceLocation
        ) {
            for part in parts {
                expect(
                    part, code: .invalidArgument,
                    from: {
                        _ = try UniversalSpec(mesh: ["tp"], parameters: ["layers": 2]) { rule() }
                    }, location: location)
            }
        }
        refuse("rule \"r\"", "{x} in b.{x}", rule: Rule("r", from: "a.{y}", to: "b.{x}"))
        refuse("several tensors would become one", "{y}", rule: Rule("r", from: "a.{y}", to: "b"))
        refuse("capture twice", rule: Rule("r", from: "a.{y}.{y}", to: "b.{y}"))
        refuse("called like an axis", rule: Rule("r", from: "a.{tp}x.{layers}", to: "b.{layers}"))
        refuse("without a \"}\"", rule: Rule("r", from: "a.{y", to: "b"))
        refuse("without a \"{\"", rule: Rule("r", from: "a.y}", to: "b"))
        refuse("nothing is called \"q\"", rule: Rule("r", from: "a.{y}", to: "b.{y + q}"))
        refuse("no axis \"dp\"", rule: Rule("r", from: "a", to: "b") { On("dp", .shard(0)) })
        refuse(
            "two of the name \"tp\"",
            rule: Rule("r", from: "a", to: "b") {
                On("tp", .shard(0)); On("tp", .replicate)
            })
        refuse("1 tensors become 1, and there are 2", rule: Rule("r", from: "a", to: ["b", "c"]))
        refuse("permutation", rule: Rule("r", from: "a", to: "b") { Apply(.permute([0, 2])) })
        refuse("expression ends too early", rule: Rule("r", from: "a", to: "b") { On("tp", .shard(0, unit: "2*")) })
        refuse("behind its end", rule: Rule("r", from: "a", to: "b") { On("tp", .shard(0, unit: "2^3")) })
        refuse("too large", rule: Rule("r", from: "a", to: "b") { On("tp", .shard(0, unit: "99999999999999999999")) })
        refuse("names an unknown optimizer moment", rule: Rule("r", from: "a", to: "b") { WithMoments(.only(["exp_avg"])) })
        refuse("no logical name", rule: Rule("r", from: ["a"], to: []))
    }

    @Test func arithmeticThatDoesNotComeOutIsNamed() throws {
        let source = try tensors(["w": [4]])
        func attempt(_ unit: IntegerExpression) throws {
            let spec = try UniversalSpec(mesh: ["tp"], parameters: ["heads": 3]) {
                Rule("w", from: "w", to: "w") { On("tp", .shard(0, unit: unit)) }
            }
            _ = try GatheredReader([source, source], spec: spec)
        }
        expect("3 is not divisible by 2", "rule \"w\"") { try attempt("heads/tp.size") }
        expect("divided by 0") { try attempt("heads/(heads - 3)") }
        expect("overflows") { try attempt("9000000000000000000*9000000000000000000") }
        expect("depends on the rank") { try attempt("heads + tp") }
        expect("out of range", "heads - 3 = 0") { try attempt("heads - 3") }
    }

    @Test func flatBuffersThatDoNotFitAreNamed() throws {
        let spec = try UniversalSpec(mesh: ["dp"]) {
            FlatBuffer("flat", over: "dp", members: [.init("m.a", [3]), .init("m.b", [2])])
            Rule("all", from: "m.{x}", to: "{x}") { On("dp", .flatten(.buffer)) }
        }
        expect("rank lacks a flat buffer", "flat") { _ = try GatheredReader([tensors(["w": [1]])], spec: spec) }
        expect("another size than its members make up", "[5]", "[6]") {
            _ = try GatheredReader([tensors(["flat": [6]])], spec: spec)
        }
        expect("member of a flat buffer is missing", "m.b") {
            var single = spec
            single.rules[0].from = ["m.{x:a}"]
            _ = try ShardedCheckpoint(tensors(["a": [3]]), spec: single, mesh: ["dp": 1]).shard(ofRank: 0)
        }
        let alone = try UniversalSpec(mesh: ["dp"]) {
            Rule("w", from: "w", to: "w") { On("dp", .flatten(.perTensor)) }
        }
        expect("do not tell the shape", "write the rule's shape") {
            _ = try GatheredReader([tensors(["w": [3]]), tensors(["w": [3]])], spec: alone)
        }
    }
}
