import Cairn

/// A training state with the tensors of a GPT-2 in bf16, 32-bit master weights and two moments.
enum BenchState {
    static func make(byteCount: Int) throws -> TrainingState {
        let width = 768
        var shapes: [(String, [Int])] = []
        for layer in 0..<12 {
            shapes += [
                ("h.\(layer).attn.c_attn.weight", [width, 3 * width]), ("h.\(layer).attn.c_attn.bias", [3 * width]),
                ("h.\(layer).attn.c_proj.weight", [width, width]), ("h.\(layer).ln_1.weight", [width]),
                ("h.\(layer).mlp.c_fc.weight", [width, 4 * width]), ("h.\(layer).mlp.c_fc.bias", [4 * width]),
                ("h.\(layer).mlp.c_proj.weight", [4 * width, width]), ("h.\(layer).ln_2.weight", [width]),
            ]
        }
        let blocks = shapes.reduce(0) { $0 + $1.1.reduce(1, *) }
        // The embedding takes what is left: 14 bytes a parameter in all.
        let rows = max(1, (byteCount / 14 - blocks) / width)
        shapes.append(("wte.weight", [rows, width]))
        var state = TrainingState()
        var word: UInt64 = 1
        for (name, extents) in shapes {
            for (prefix, type) in [("model.", ScalarType.bf16), ("master.", .f32), ("exp_avg.", .f32), ("exp_avg_sq.", .f32)] {
                let tensor = try Tensor(type, Shape(extents)) { bytes in
                    bytes.withUnsafeMutableBytes { memory in
                        let words = memory.bindMemory(to: UInt64.self)
                        for index in words.indices {
                            word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                            words[index] = word
                        }
                        for index in words.count * 8..<memory.count { memory[index] = UInt8(truncatingIfNeeded: index) }
                    }
                }
                state.set(tensor, for: prefix + name)
            }
        }
        return state
    }
}
