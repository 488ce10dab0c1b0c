import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// `cairn align` on stored networks whose units were put in other orders by hand.
@Suite struct Align {
    /// A chain of layers with moments of an optimizer beside the weights.
    struct Network {
        var widths = [4, 9, 7, 3]
        var weights: [[Float]] = []
        var biases: [[Float]] = []
        var moments: [[Float]] = []

        init(seed: UInt64, widths: [Int] = [4, 9, 7, 3]) {
            var generator = SeededGenerator(seed: seed)
            func numbers(_ count: Int) -> [Float] {
                (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
            }
            self.widths = widths
            for (inputs, outputs) in zip(widths, widths.dropFirst()) {
                weights.append(numbers(inputs * outputs))
                biases.append(numbers(outputs))
                moments.append(numbers(inputs * outputs))
            }
        }

        /// The same with the units of the hidden layers in other orders.
        func shuffled(_ orders: [[Int]]) -> Network {
            var other = self
            let rows = orders + [Array(0..<(widths.last ?? 0))], columns = [Array(0..<widths[0])] + orders
            for layer in weights.indices {
                let inputs = widths[layer]
                func moved(_ matrix: [Float]) -> [Float] {
                    rows[layer].flatMap { row in columns[layer].map { matrix[row * inputs + $0] } }
                }
                other.weights[layer] = moved(weights[layer])
                other.moments[layer] = moved(moments[layer])
                other.biases[layer] = rows[layer].map { biases[layer][$0] }
            }
            return other
        }

        /// - Parameter trained: Whether names are those of the example trainer.
        func save(_ folder: String, trained: Bool = false) throws {
            var state = TrainingState()
            let prefix = trained ? "model." : "", moment = trained ? "optimizer.exp_avg.model." : "moments."
            for layer in weights.indices {
                let shape: Shape = [widths[layer + 1], widths[layer]]
                state.set(try Tensor(weights[layer], shape), for: "\(prefix)layers.\(layer).weight")
                state.set(try Tensor(biases[layer], [widths[layer + 1]]), for: "\(prefix)layers.\(layer).bias")
                state.set(try Tensor(moments[layer], shape), for: "\(moment)layers.\(layer).weight")
            }
            state.set(.integer(7), for: "step")
            try CheckpointStore(path: folder).save(state, step: 7)
        }
    }

    private static let orders = [[3, 0, 8, 1, 2, 7, 6, 4, 5], [6, 2, 0, 1, 5, 4, 3]]

    /// Whether two stored checkpoints have the same bits.
    private static func expectEqual(_ one: String, _ other: String) throws {
        let first = try CheckpointStore(path: one).open(step: 7)
        let second = try CheckpointStore(path: other).open(step: 7)
        #expect(first.tensors.map(\.name) == second.tensors.map(\.name))
        for tensor in first.tensors {
            #expect(try second.tensor(tensor.name) == first.tensor(tensor.name), "\(tensor.name)")
        }
        #expect(first.values == second.values)
    }

    private static func pair(_ directory: TemporaryDirectory, trained: Bool = false) throws {
        let network = Network(seed: 1)
        try network.save(directory.path("a"), trained: trained)
        try network.shuffled(orders).save(directory.path("b"), trained: trained)
    }

    /// Rearranges the second of the pair to be like the first.
    private static func align(_ arguments: String..., in directory: TemporaryDirectory) throws -> ToolRun {
        try align(arguments, in: directory)
    }

    private static func align(_ arguments: [String], in directory: TemporaryDirectory) throws -> ToolRun {
        // With the step, or there is a note that it is the latest.
        try ToolRun(["align", "a@7", "b@7", "--to", "cairn"] + arguments, in: directory)
    }

    @Test func aPlantedOrderIsUndoneAndMomentsMoveAlong() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        let run = try Self.align(
            "--network", "perceptron", "--along", "moments.", "-o", "c", "--json",
            in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-align/1")
        #expect(try document.integer("units") == 16)
        let moved = Self.orders.map { order in order.enumerated().count { $0.offset != $0.element } }
        #expect(try document.integer("moved") == moved.reduce(0, +))
        #expect(try document.bool("settled"))
        #expect(try document.double("similarity_after") > document.double("similarity_before"))
        try Self.expectEqual(directory.path("a"), directory.path("c"))
        let lineage = try #require(try CheckpointStore(path: directory.path("c")).open(step: 7).manifest.lineage)
        #expect(lineage.operation == "alignment" && lineage.parents.map(\.source) == ["b", "a"])
    }

    @Test func momentsThatAreNotMentionedAreRefused() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        let run = try Self.align("--network", "perceptron", "--exclude", "moments.*", "-o", "c", in: directory)
        #expect(run.exitCode == 0 && !run.errors.contains("--along"), "\(run.errors)")
        let units = directory.url.appendingPathComponent("units.json")
        try Data(Self.specification.utf8).write(to: units)
        let refused = try Self.align("--spec", "units.json", "-o", "d", in: directory)
        #expect(refused.failedInOneLine, "\(refused.errors)")
        #expect(
            refused.errors.contains("moments.layers.0.weight") && refused.errors.contains("--along"), "\(refused.errors)")
        // Those that are named with null were thought of, and are noted.
        let fixed = (0..<3).map { "\n    \"moments.layers.\($0).weight\": [null, null]," }.joined()
        try Data(Self.specification.replacingOccurrences(of: "\"axes\": {", with: "\"axes\": {" + fixed).utf8).write(to: units)
        let kept = try Self.align("--spec", "units.json", "-o", "d", in: directory)
        #expect(kept.exitCode == 0, "\(kept.errors)")
    }

    @Test func aBiasThatASpecificationForgetsIsRefused() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        let text = Self.specification.replacingOccurrences(of: "    \"layers.0.bias\": [\"hidden.0\"],\n", with: "")
        try Data(text.utf8).write(to: directory.url.appendingPathComponent("units.json"))
        let run = try Self.align("--spec", "units.json", "--along", "moments.", "-o", "c", in: directory)
        #expect(run.failedInOneLine && run.errors.contains("layers.0.bias") && run.errors.contains("null"), "\(run.errors)")
        #expect(try directory.names() == ["a", "b", "units.json"])
    }

    @Test func theTrainersStateNeedsNoPrefixes() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory, trained: true)
        let run = try Self.align("--network", "cairn-train", "-o", "c", in: directory)
        #expect(run.exitCode == 0 && !run.errors.contains("--along"), "\(run.errors)")
        try Self.expectEqual(directory.path("a"), directory.path("c"))
    }

    private static let specification = """
        {
          "schema": "cairn-permutations/1",
          "axes": {
            "layers.0.bias": ["hidden.0"],
            "layers.0.weight": ["hidden.0", null],
            "layers.1.bias": ["hidden.1"],
            "layers.1.weight": ["hidden.1", "hidden.0"],
            "layers.2.weight": [null, "hidden.1"]
          }
        }

        """

    @Test func specificationsAreWrittenAndRead() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        let saving = ["--network", "perceptron", "--along", "moments.", "--save-spec", "units.json"]
        let run = try Self.align(saving + ["-o", "c"], in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let written = try Data(contentsOf: directory.url.appendingPathComponent("units.json"))
        #expect(String(decoding: written, as: UTF8.self) == Self.specification)
        let read = try Self.align("--spec", "units.json", "--along", "moments.", "-o", "d", in: directory)
        #expect(read.exitCode == 0, "\(read.errors)")
        try Self.expectEqual(directory.path("a"), directory.path("d"))
        // It is not written over.
        let again = try Self.align(saving + ["-o", "e"], in: directory)
        #expect(again.failedInOneLine && again.errors.contains("units.json"), "\(again.errors)")
        #expect(try directory.names() == ["a", "b", "c", "d", "units.json"])
    }

    @Test(arguments: [
        ["--network", "resnet"], [], ["--network", "perceptron", "--spec", "units.json"], ["--network", "llama"],
        ["--network", "perceptron", "--heads", "2"], ["--spec", "units.json", "--keep-residual"],
        ["--network", "cairn-train", "--key-heads", "2"], ["--network", "perceptron", "--dtype", "F16"],
    ]) func whatCannotBeMeantIsRefused(arguments: [String]) throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        let run = try ToolRun(["align", "a@7", "b@7", "-o", "c"] + arguments, in: directory)
        #expect(run.exitCode == 64, "\(run.errors)")
        #expect(try directory.names() == ["a", "b"])
    }

    /// Every error names what it is about, on one line, and nothing is written.
    @Test(arguments: [
        ("", "units.json", ["units.json"]),
        ("{\"schema\": \"cairn-permutations/1\", \"axes\": 3}", "units.json", ["units.json", "axes"]),
        ("{\"schema\": \"cairn-permutations/9\"}", "units.json", ["units.json", "cairn-permutations/1"]),
        ("{}", "absent.json", ["absent.json"]),
        (
            #"{"schema": "cairn-permutations/1", "axes": {"layers.9.weight": ["h", null]}}"#, "units.json",
            ["layers.9.weight"]
        ),
        (#"{"schema": "cairn-permutations/1", "axes": {"layers.0.weight": ["h"]}}"#, "units.json", ["layers.0.weight"]),
        (
            #"{"schema": "cairn-permutations/1", "axes": {"layers.0.weight": [{"label": "h", "width": 2}, null]}}"#,
            "units.json", ["layers.0.weight", "2"]
        ),
        (
            #"{"schema": "cairn-permutations/1", "axes": {"layers.0.bias": ["h"], "layers.1.bias": ["h"]}}"#,
            "units.json", ["\"h\""]
        ),
        (
            #"{"schema": "cairn-permutations/1", "axes": {"layers.1.weight": ["h", "h"]}}"#, "units.json",
            ["layers.1.weight"]
        ),
        (
            #"{"schema": "cairn-permutations/1", "stacks": {"e": [["layers.0.bias", "layers.1.bias"]]}}"#, "units.json",
            ["layers.1.bias"]
        ),
    ]) func specificationsThatDoNotFitAreExplained(text: String, name: String, hints: [String]) throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        try Data(text.utf8).write(to: directory.url.appendingPathComponent("units.json"))
        let run = try Self.align("--spec", name, "-o", "c", in: directory)
        #expect(run.failedInOneLine, "\(run.errors)")
        for hint in hints { #expect(run.errors.contains(hint), "\(run.errors)") }
        #expect(try directory.names() == ["a", "b", "units.json"])
    }

    @Test func networksThatDoNotMatchAreExplained() throws {
        let directory = try TemporaryDirectory()
        try Self.pair(directory)
        try Network(seed: 2, widths: [4, 9, 8, 3]).save(directory.path("other-width"))
        try Network(seed: 3, widths: [5, 9, 7, 3]).save(directory.path("other-input"))
        var broken = Network(seed: 4)
        broken.weights[1][5] = .nan
        try broken.save(directory.path("broken"))
        for (model, hints) in [
            ("other-width@7", ["8 hidden.1", "7 hidden.1"]), ("other-input@7", ["layers.0.weight", "[9, 5]", "[9, 4]"]),
            ("broken@7", ["hidden.", "not finite"]), ("absent", ["absent"]),
        ] {
            for names in [["a@7", model], [model, "a@7"]] {
                let run = try ToolRun(
                    ["align"] + names
                        + ["--network", "perceptron", "--along", "moments.", "-o", "c", "--to", "cairn"],
                    in: directory)
                #expect(run.failedInOneLine, "\(run.errors)")
                for hint in hints { #expect(run.errors.contains(hint), "\(run.errors)") }
            }
        }
        for network in ["perceptron", "cairn-train"] {
            let run = try Self.align("--network", network, "-o", "c", in: directory)
            // The moments stand between, or the names are others.
            #expect(run.failedInOneLine && run.errors.contains("b"), "\(run.errors)")
        }
        let prefix = try Self.align("--network", "perceptron", "--along", "moment.", "-o", "c", in: directory)
        #expect(prefix.failedInOneLine && prefix.errors.contains("moment."), "\(prefix.errors)")
        try Data(Self.specification.utf8).write(to: directory.url.appendingPathComponent("units.json"))
        let other = try Self.align("--spec", "units.json", "--along", "moment.", "-o", "c", in: directory)
        #expect(other.failedInOneLine && other.errors.contains("\"moment.\""), "\(other.errors)")
        let over = try Self.align("--network", "perceptron", "--along", "moments.", "-o", "b", in: directory)
        #expect(over.failedInOneLine, "\(over.errors)")
        #expect(try directory.names() == ["a", "b", "broken", "other-input", "other-width", "units.json"])
    }

    /// Saves a layer with four heads of two elements, two of keys, and its configuration beside it.
    private static func saveLayer(_ folder: String, seed: UInt64, configuration: String?) throws {
        var generator = SeededGenerator(seed: seed)
        var state = TrainingState()
        for (name, shape) in [
            ("model.embed_tokens.weight", [5, 6]), ("model.norm.weight", [6]), ("model.layers.0.input_layernorm.weight", [6]),
            ("model.layers.0.pre_feedforward_layernorm.weight", [6]), ("model.layers.0.self_attn.q_proj.weight", [8, 6]),
            ("model.layers.0.self_attn.k_proj.weight", [4, 6]), ("model.layers.0.self_attn.v_proj.weight", [4, 6]),
            ("model.layers.0.self_attn.o_proj.weight", [6, 8]), ("model.layers.0.mlp.gate_proj.weight", [7, 6]),
            ("model.layers.0.mlp.up_proj.weight", [7, 6]), ("model.layers.0.mlp.down_proj.weight", [6, 7]),
        ] as [(String, Shape)] {
            let numbers = (0..<shape.elementCount).map { _ in Float.random(in: -1...1, using: &generator) }
            state.set(try Tensor(numbers, shape), for: name)
        }
        try CheckpointStore(path: folder).save(state, step: 7)
        if let configuration { try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder + "/config.json")) }
    }

    private static let heads = #"{"model_type": "gemma2", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 2}"#

    @Test func headsAreThoseOfTheConfiguration() throws {
        let directory = try TemporaryDirectory()
        try Self.saveLayer(directory.path("a"), seed: 1, configuration: nil)
        try Self.saveLayer(directory.path("b"), seed: 2, configuration: Self.heads)
        let arguments = ["--network", "llama", "--save-spec", "units.json"]
        let run = try Self.align(arguments + ["-o", "c"], in: directory)
        #expect(run.exitCode == 0 && !run.errors.contains("believed"), "\(run.errors)")
        let written = try String(contentsOf: directory.url.appendingPathComponent("units.json"), encoding: .utf8)
        for part in [
            #""model.layers.0.pre_feedforward_layernorm.weight": ["residual"]"#, #"{"label": "block.0.heads", "width": 4}"#,
        ] { #expect(written.contains(part), "\(written)") }
        // What a user says must be what the configuration says, of either model.
        for (numbers, hint) in [
            (["--heads", "2"], "num_attention_heads 4"), (["--key-heads", "4"], "num_key_value_heads 2"),
        ] {
            for names in [["a@7", "b@7"], ["b@7", "a@7"]] {
                let run = try ToolRun(
                    ["align"] + names + ["--network", "llama", "-o", "d", "--to", "cairn"] + numbers, in: directory)
                #expect(run.failedInOneLine && run.errors.contains(hint), "\(run.errors)")
            }
        }
        // Without one the numbers are believed, and that is said.
        try FileManager.default.removeItem(at: directory.url.appendingPathComponent("b/config.json"))
        let believed = try Self.align("--network", "llama", "--heads", "4", "--key-heads", "2", "-o", "d", in: directory)
        #expect(believed.exitCode == 0 && believed.errors.contains("4 is believed"), "\(believed.errors)")
        try Self.expectEqual(directory.path("c"), directory.path("d"))
    }

    @Test(arguments: [
        (#"{"model_type": "gpt_oss", "num_attention_heads": 4}"#, "gpt_oss"), ("{", "config.json"),
        (#"{"num_attention_heads": 4, "head_dim": 3}"#, "3 elements"),
        (#"{"num_attention_heads": 3, "num_key_value_heads": 1}"#, "divisor of 8"),
        (#"{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 2, "hidden_size": 12}"#, "hidden_size 12"),
    ]) func configurationsThatDoNotFitAreExplained(text: String, hint: String) throws {
        let directory = try TemporaryDirectory()
        for name in ["a", "b"] { try Self.saveLayer(directory.path(name), seed: 1, configuration: text) }
        let run = try Self.align("--network", "llama", "-o", "c", in: directory)
        #expect(run.failedInOneLine && run.errors.contains(hint), "\(run.errors)")
        #expect(try directory.names() == ["a", "b"])
    }

    @Test func modelsThatShareOutTheirHeadsDifferentlyAreRefused() throws {
        let directory = try TemporaryDirectory()
        try Self.saveLayer(directory.path("a"), seed: 1, configuration: #"{"num_attention_heads": 2, "head_dim": 4}"#)
        try Self.saveLayer(directory.path("b"), seed: 2, configuration: #"{"num_attention_heads": 4, "head_dim": 2}"#)
        let run = try Self.align("--network", "llama", "-o", "c", in: directory)
        #expect(run.failedInOneLine && run.errors.contains("heads"), "\(run.errors)")
    }
}
