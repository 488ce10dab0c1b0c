import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor
import CairnTesting
import Testing

@Suite struct CheckpointViewTests {
    /// Two tensors, one of them under three names, and a value.
    private func tied() throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        checkpoint.add("b", try Tensor([1, 2] as [Float], [2]))
        checkpoint.add("a", try checkpoint.tensor("b"), tiedTo: "b")
        checkpoint.add("c", try checkpoint.tensor("b"), tiedTo: "b")
        checkpoint.add("d", try Tensor([3] as [Int64], [1]))
        checkpoint.values = [NamedValue(name: "step", value: 5)]
        return checkpoint
    }

    @Test func aSelectionHoldsWhatItsPatternsFit() throws {
        let base = try tied()
        let all = try SelectedReader(base)
        #expect(try difference(all, base) == nil)
        let some = try SelectedReader(base, include: ["[ac]", "step"])
        #expect(some.tensors.map(\.name) == ["a", "c"])
        #expect(some.tensors.map(\.tiedTo) == [nil, "a"])
        #expect(try some.tensor("c") == base.tensor("b"))
        #expect(some.values == base.values)
        #expect(throws: CairnError.self) { try some.tensor("b") }
        #expect(throws: CairnError.self) { try some.mapped("b") }
        let rest = try SelectedReader(base, exclude: ["a", "st*"])
        #expect(rest.tensors.map(\.tiedTo) == [nil, "b", nil])
        #expect(rest.values.isEmpty)
    }

    @Test func aPatternThatFitsNothingIsNamed() throws {
        let base = try tied()
        func expectNamed(_ attempt: () throws -> any CheckpointReader) {
            do {
                _ = try attempt()
                Issue.record("it was accepted")
            } catch {
                #expect((error as? CairnError)?.code == .notFound && "\(error)".contains("nothing*"))
            }
        }
        expectNamed { try SelectedReader(base, include: ["a", "nothing*"]) }
        expectNamed { try SelectedReader(base, exclude: ["nothing*"]) }
        expectNamed { try CastReader(base, to: .bf16, patterns: ["nothing*"]) }
        expectNamed { try RenamedReader(base, rules: [RenameRule("nothing*", to: "x")]) }
    }

    @Test func renamingKeepsTiesAndRefusesCollisions() throws {
        let base = try tied()
        let renamed = try RenamedReader(base, rules: [RenameRule("b", to: "z"), RenameRule("?", to: "m.$1")])
        #expect(renamed.tensors.map(\.name) == ["m.a", "m.c", "m.d", "z"])
        #expect(renamed.tensors.map(\.tiedTo) == ["z", "z", nil, nil])
        #expect(try renamed.tensor("m.d") == base.tensor("d"))
        #expect(throws: CairnError.self) { try renamed.tensor("d") }
        do throws(CairnError) {
            _ = try RenamedReader(base, rules: [RenameRule("d", to: "step")])
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .mismatch && error.message.contains("\"d\"") && error.message.contains("\"step\""))
        }
    }

    @Test func aCastThatDividesATieUntiesIt() throws {
        let base = try tied()
        let whole = try CastReader(base, to: .f64)
        #expect(whole.tensors.map(\.tiedTo) == ["b", nil, "b", nil])
        #expect(whole.tensors.map(\.scalarType) == [.f64, .f64, .f64, .i64])
        let divided = try CastReader(base, to: .f64, patterns: ["[ac]"])
        #expect(divided.tensors.map(\.tiedTo) == [nil, nil, "a", nil])
        #expect(try divided.tensor("c") == base.tensor("b").converted(to: .f64))
        #expect(try divided.tensor("b") == base.tensor("b"))
        #expect(try CastReader(base, to: .f32, scope: .all).tensors.allSatisfy { $0.scalarType == .f32 })
    }

    @Test(arguments: 0..<100 as Range<UInt64>) func viewsEqualDoingItInMemory(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let random = try MemoryCheckpoint.random(25, using: &generator)
        let packed = random.tensors.filter(\.scalarType.isPacked).map(\.name)
        var expected = MemoryCheckpoint()
        var view: any CheckpointReader = random
        if !packed.isEmpty {
            let patterns = packed.map { name in name.map { "*?[\\".contains($0) ? "\\\($0)" : "\($0)" }.joined() }
            view = try SelectedReader(view, exclude: patterns)
        }
        view = try RenamedReader(view, rules: [RenameRule("*", to: "x.$1")])
        view = try CastReader(view, to: .bf16)
        for tensor in view.tensors {
            let original = try random.tensor(String(tensor.name.unicodeScalars.dropFirst(2)))
            let cast = original.scalarType.isFloatingPoint ? try original.converted(to: .bf16) : original
            expected.add(tensor.name, cast, tiedTo: tensor.tiedTo)
        }
        expected.values = random.values.map { NamedValue(name: "x." + $0.name, value: $0.value) }
        #expect(view.tensors.count == random.tensors.count - packed.count, "seed \(seed)")
        #expect(try difference(view, expected) == nil, "seed \(seed)")
        for tensor in view.tensors where tensor.shape.elementCount > 0 {
            let offsets = tensor.shape.extents.map { Int.random(in: 0..<$0, using: &generator) }
            let lengths = zip(tensor.shape.extents, offsets).map { Int.random(in: 0...$0 - $1, using: &generator) }
            let region = try Region(offsets: offsets, shape: Shape(lengths))
            let read = try Tensor(tensor.scalarType, region.shape) { destination in
                try view.read(tensor.name, region: region, into: &destination)
            }
            #expect(try read == expected.tensor(tensor.name).copy(of: region), "seed \(seed)")
        }
    }

    @Test func largeTensorsAreCastInBlocks() throws {
        var generator = SeededGenerator(seed: 8)
        var base = MemoryCheckpoint()
        base.add("x", try Tensor.random(.bf16, [3, 700, 800], using: &generator))
        let view = try CastReader(base, to: .f32)
        #expect(try view.tensor("x") == base.tensor("x").converted(to: .f32))
        let region = try Region(offsets: [1, 5, 0], shape: [2, 690, 800])
        let read = try Tensor(.f32, region.shape) { try view.read("x", region: region, into: &$0) }
        #expect(try read == base.tensor("x").converted(to: .f32).copy(of: region))
    }
}
