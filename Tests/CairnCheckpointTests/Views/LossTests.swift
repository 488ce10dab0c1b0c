import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// What a copy changes is said by tensor, and where that is asked for an error that leaves nothing.
@Suite struct LossTests {
    private func source() throws -> MemoryCheckpoint {
        MemoryCheckpoint([
            "fine": try Tensor([1, 2, 3] as [Float], [3]),
            "large": try Tensor([1, 70000, -1e6, .infinity] as [Float], [2, 2]),
        ])
    }

    @Test func aCastNotesWhatBecameInfinite() throws {
        let storage = MemoryStorage()
        let cast = try CastReader(source(), to: .f16)
        #expect(cast.losses == [])
        let notes = try copyCheckpoint(from: cast, to: SafeTensorsWriter(storage: storage, key: "m.safetensors"))
        #expect(cast.losses == [LossNote(name: "large", kind: .overflow(count: 2, of: 4, greatest: 1e6, to: .f16))])
        #expect(notes == cast.losses?.map(\.description))
        #expect(notes[0].contains("\"large\": 2 of 4 numbers") && notes[0].contains("1000000"))
        // Reading it once more counts nothing twice.
        _ = try cast.tensor("large")
        #expect(cast.losses?.count == 1)
        let named = try RenamedReader(
            SelectedReader(CastReader(source(), to: .f16), include: ["large"]), rules: [RenameRule("l*", to: "x$1")])
        _ = try named.tensor("xarge")
        #expect(named.losses == cast.losses)
    }

    @Test func whatConvertsNothingHasNoLosses() throws {
        #expect(try source().losses == nil)
        #expect(try SelectedReader(source()).losses == nil)
        #expect(try CastReader(source(), to: .f64).tensor("large").converted(to: .f32) == source().tensor("large"))
    }

    @Test func aStrictCopyLeavesNothing() throws {
        let storage = MemoryStorage()
        let error = refusal {
            _ = try copyCheckpoint(
                from: CastReader(source(), to: .f16), to: SafeTensorsWriter(storage: storage, key: "m.safetensors"),
                strict: true)
        }
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("\"large\": 2 of 4 numbers are too large for F16") == true)
        #expect(try storage.list("").isEmpty)
        var valued = try source()
        valued.values = [NamedValue(name: "step", value: 3)]
        #expect(
            refusal {
                _ = try copyCheckpoint(
                    from: valued, to: SafeTensorsWriter(storage: storage, key: "m.safetensors"), strict: true)
            }?.message.contains("\"step\"") == true)
        #expect(try storage.list("").isEmpty)
        let notes = try copyCheckpoint(
            from: CastReader(source(), to: .bf16), to: SafeTensorsWriter(storage: storage, key: "m.safetensors"),
            strict: true)
        #expect(notes.isEmpty)
        #expect(try storage.list("").count == 1)
    }

    /// What an interrupted conversion has written is not written again, but what was lost in it is said all the same.
    @Test func aResumedCopyKnowsWhatTheFirstOneLost() throws {
        let storage = MemoryStorage()
        func writer() -> SafeTensorsWriter {
            let writer = SafeTensorsWriter(storage: storage, key: "m.safetensors", maximumShardByteCount: 8)
            writer.continuation = "the same"
            return writer
        }
        var broken = try source()
        broken.add("z", try Tensor([1, 2, 3, 4] as [Float], [4]))
        broken.add("a", try Tensor([1e9, 2, 3, 4] as [Float], [4]))
        let whole = broken
        broken.readLimit = 2
        #expect(throws: (any Error).self) { _ = try copyCheckpoint(from: CastReader(broken, to: .f16), to: writer()) }
        let second = writer()
        let notes = try copyCheckpoint(from: CastReader(whole, to: .f16), to: second)
        #expect(second.resumedTensorCount > 0)
        #expect(notes.contains { $0.contains("\"a\": 1 of 4") })
        #expect(notes.contains { $0.contains("\"large\": 2 of 4") })
    }

    // MARK: Nested states

    private let state = StateNode.typed(
        .orderedDictionary,
        .dictionary([
            .init(key: "w", node: .tensor("w")),
            .init(key: "model", node: .dictionary([.init(key: "w", node: .typed(.gradient, .tensor("model.w")))])),
            .init(key: "set", node: .typed(.set, .list([.value(1), .tuple([.value(2)])]))),
            .init(key: "numbers", node: .dictionary([.init(key: .index(3), node: .value("three"))])),
            .init(key: .value(.bool(true)), node: .typed(.frozenSet, .list([]))),
            .init(key: "pair", node: .tuple([.value(1), .tensor("pair.1")])),
            .init(key: "queue", node: .typed(.deque, .list([.value(0)]))),
        ]))

    @Test func aFlatFormatNamesEveryPath() {
        #expect(
            StateLosses(of: state, in: .flat).notes == [
                "\"True\", \"numbers\": has keys that are not text, which become text",
                "\"model\", \"pair\": nests tensors, which is kept in their names alone",
                "\"model.w\": was a tensor with requires_grad and becomes a plain tensor",
                "\"set\": was a set and becomes a list",
                "\"set.1\", \"pair\": was a tuple and becomes a list",
                "\"True\": was a frozenset and becomes a set or a list",
                "\"queue\": was a deque and becomes a list",
            ])
    }

    @Test func aTorchFileKeepsAllButWhatItsReaderRefuses() {
        #expect(
            StateLosses(of: state, in: .torch).notes == [
                "\"True\": was a frozenset and becomes a set or a list", "\"queue\": was a deque and becomes a list",
            ])
    }

    @Test func manyPathsAreCutShort() {
        let node = StateNode.list((0..<150).map { _ in .typed(.deque, .list([])) })
        let notes = StateLosses(of: .dictionary([.init(key: "x", node: node)]), in: .torch).notes
        #expect(notes.count == 1)
        #expect(notes[0].hasSuffix("\"x.99\" and 50 more: was a deque and becomes a list"))
    }
}
