import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import Testing

@Suite("Tensor ranks of DeepSpeed")
struct TensorParallelTests {
    /// Two model files, each with its half of a model's weights, and what they say of the division.
    private func storage(info: Value?) throws -> MemoryStorage {
        let storage = MemoryStorage()
        for rank in 0..<2 {
            let first = Float(rank) * 100
            func part(_ shape: [Int]) throws -> Tensor {
                let count = shape.reduce(1, *)
                return try Tensor((0..<count).map { first + Float($0) }, Shape(checking: shape))
            }
            let weights = [
                ("column.weight", try part([2, 3])), ("row.weight", try part([3, 2])),
                ("norm.weight", try Tensor([1, 2, 3] as [Float], [3])), ("gate_up.weight", try part([4, 1])),
                ("vocab.weight", try part([3, 1])),
            ]
            var members: [StateNode.Member] = [
                .init(
                    key: "module",
                    node: .dictionary(weights.map { .init(key: StateKey($0.0), node: .tensor($0.0)) })),
                .init(key: "buffer_names", node: .list([])),
                .init(
                    key: "checkpoint_parallel_dimensions",
                    node: .value(.dictionary(["tp_degree": .integer(2), "pp_degree": .integer(1)]))),
            ]
            if let info { members.append(.init(key: "universal_checkpoint_info", node: .value(info))) }
            let writer = TorchWriter(storage: storage, key: "mp_rank_0\(rank)_model_states.pt")
            let descriptions = weights.map {
                TensorDescription(name: $0.0, scalarType: .f32, shape: $0.1.shape)
            }
            _ = try writer.begin(tensors: descriptions, values: [], structure: .dictionary(members))
            for (_, tensor) in weights { try writer.append(tensor.bytes) }
            try writer.finish()
        }
        return storage
    }

    private static let info: Value = .dictionary([
        "universal_checkpoint_version": .double(0.2), "original_vocab_size": .integer(5),
        "tp_replicated_parameter_patterns": .list([.string("^norm\\..*")]),
        "parameter_with_row_parallelism_patterns": .list([.string("row\\.weight")]),
        "parameter_with_2_sub_params_cat_dim_0": .list([.string("(?:gate|gate_up)\\.weight$")]),
        "vocabulary_parameter_patterns": .list([.string("vocab")]),
    ])

    @Test("Patterns of the checkpoint gather the parts along their dimensions")
    func gathered() throws {
        let reader = try DeepSpeedReader(storage: storage(info: Self.info), prefix: "", source: "memory")
        func elements(_ name: String) throws -> [Float] {
            try reader.tensor(name).withElements(as: Float.self) { Array($0) }
        }
        #expect(try elements("column.weight.param") == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105])
        #expect(try elements("row.weight.param") == [0, 1, 100, 101, 2, 3, 102, 103, 4, 5, 104, 105])
        #expect(try elements("norm.weight.param") == [1, 2, 3])
        #expect(try elements("gate_up.weight.param") == [0, 1, 100, 101, 2, 3, 102, 103])
        #expect(try elements("vocab.weight.param") == [0, 1, 2, 100, 101])
        // Any region is that of the whole.
        let whole = try reader.tensor("row.weight.param")
        let region = try Region(offsets: [1, 1], shape: [2, 2])
        let part = try Tensor(.f32, region.shape) { try reader.read("row.weight.param", region: region, into: &$0) }
        #expect(try part == whole.copy(of: region))
    }

    @Test("Without patterns the parts are refused as a whole, and can be had by themselves")
    func ranks() throws {
        let storage = try storage(info: nil)
        do {
            _ = try DeepSpeedReader(storage: storage, prefix: "", source: "memory")
            Issue.record("it was gathered by a guess")
        } catch {
            #expect(error.code == .unsupported)
            #expect("\(error)".contains("--rules"))
        }
        let ranks = try DeepSpeedReader.ranks(storage: storage, prefix: "", source: "memory")
        #expect(ranks.count == 2)
        #expect(try ranks[1].tensor("row.weight.param").shape == [3, 2])
    }

    @Test("Copies that differ are noticed when they are read")
    func copies() throws {
        let info: Value = .dictionary(["tp_replicated_parameter_patterns": .list([.string(".*")])])
        let reader = try DeepSpeedReader(storage: storage(info: info), prefix: "", source: "memory")
        #expect(throws: CairnError.self) { _ = try reader.tensor("column.weight.param") }
        #expect(throws: Never.self) { _ = try reader.tensor("norm.weight.param") }
    }

    @Test(
        "Patterns match as Python's re.match does",
        arguments: [
            ("a.b", "axb.c", true), ("a\\.b", "axb", false), ("^layers\\.\\d+\\.w$", "layers.12.w", true),
            ("^layers\\.\\d+\\.w$", "layers.12.w.x", false), ("(a|bc)*d", "abcabcd", true), ("(a|bc)*d", "abxd", false),
            ("[a-c_]+x", "abc_x", true), ("[^.]+\\.q", "k.q", true), ("[^.]+\\.q", "k.k.q", false),
            ("a{2,3}b", "aab", true), ("a{2,3}b", "aaaab", false), ("", "anything", true), ("x??y", "y", true),
        ])
    func patterns(pattern: String, name: String, fits: Bool) throws {
        #expect(try NamePattern(pattern).matchesBeginning(of: name) == fits)
    }

    @Test("A pattern that would keep a backtracking matcher busy forever takes no time; unknown syntax is refused")
    func hostilePatterns() throws {
        let name = String(repeating: "a", count: 5000)
        #expect(try !NamePattern("(a*)*(a|aa)+$b").matchesBeginning(of: name))
        for text in ["(?<=a)b", "\\1", "a**", "(", "[", "a{9999}", "\\", "x{2", String(repeating: "(", count: 100)] {
            #expect(throws: CairnError.self, "\(text)") { try NamePattern(text) }
        }
    }

    @Test("Groups of an optimizer are told apart by shapes only where there is one way")
    func order() throws {
        let matrix = try Shape(checking: [2, 2]), vector = try Shape(checking: [2])
        let parameters = [matrix, vector, matrix, vector]
        #expect(
            ParameterOrder.match(parameters: parameters, groups: [[matrix, matrix], [vector, vector]])
                == [[0, 2], [1, 3]])
        #expect(ParameterOrder.match(parameters: parameters, groups: [[matrix, vector, matrix, vector]]) == [[0, 1, 2, 3]])
        // The second group's order says which matrix is whose.
        #expect(
            ParameterOrder.match(parameters: parameters, groups: [[matrix], [matrix, vector, vector]]) == [[2], [0, 1, 3]])
        // Either matrix may be the first group's.
        #expect(ParameterOrder.match(parameters: [matrix, matrix], groups: [[matrix], [matrix]]) == nil)
        #expect(ParameterOrder.match(parameters: parameters, groups: [[matrix, matrix], [vector]]) == nil)
        #expect(ParameterOrder.match(parameters: parameters, groups: [[vector, matrix, matrix, vector]]) == nil)
    }
}
