import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

/// Adapters as PEFT saves them, added to models: the formulas of its `merge_and_unload`, and what is refused.
@Suite struct Adapters {
    /// A model and an adapter for it.
    struct Pair {
        var model = MemoryCheckpoint("model")
        var adapter = MemoryCheckpoint("adapter")
        private var random = RandomTensors(seed: 7)

        mutating func add(weight name: String, _ shape: Shape, _ type: ScalarType = .f32) throws {
            model.add(name, try random.tensor(shape, type))
        }

        /// Matrices of a module.
        mutating func add(
            matrices module: String, _ down: Shape, _ up: Shape, prefix: String = "base_model.model.", isEmbedding: Bool = false
        ) throws {
            let (a, b) = isEmbedding ? ("lora_embedding_A", "lora_embedding_B") : ("lora_A.weight", "lora_B.weight")
            adapter.add("\(prefix)\(module).\(a)", try random.tensor(down))
            adapter.add("\(prefix)\(module).\(b)", try random.tensor(up))
        }

        mutating func add(_ name: String, _ shape: Shape, _ type: ScalarType = .f32) throws {
            adapter.add("base_model.model." + name, try random.tensor(shape, type))
        }

        func merged(_ members: String = "", rank: Int = 2, alpha: Int = 4) throws -> MergedCheckpoint {
            let json = #"{"peft_type": "LORA", "r": \#(rank), "lora_alpha": \#(alpha)\#(members.isEmpty ? "" : ", " + members)}"#
            let configuration = try LowRankAdapter.Configuration(json: json, file: "adapter_config.json")
            return try MergedCheckpoint(
                MergeInput(model), adapters: [LowRankAdapter(MergeInput(adapter), configuration: configuration)])
        }

        func refusal(_ members: String = "", rank: Int = 2) -> String {
            let error = #expect(throws: CairnError.self) { try merged(members, rank: rank) }
            return error.map { "\($0)" } ?? ""
        }

        func numbers(_ name: String) throws -> [Double] { try adapter.doubles("base_model.model." + name) }

        /// A weight plus its product, row-major in `[outputs, inputs]`.
        func sum(_ weight: String, _ module: String, outputs: Int, inputs: Int, rank: Int = 2, scale: Double) throws -> [Double] {
            let (w, a, b) = (
                try model.doubles(weight), try numbers(module + ".lora_A.weight"), try numbers(module + ".lora_B.weight")
            )
            var sums = w
            for row in 0..<outputs {
                for column in 0..<inputs {
                    var product = 0.0
                    for index in 0..<rank { product += b[row * rank + index] * a[index * inputs + column] }
                    sums[row * inputs + column] += scale * product
                }
            }
            return sums
        }
    }

    private static func expectEqual(
        _ found: [Double], _ expected: [Double], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(found.count == expected.count, sourceLocation: sourceLocation)
        let difference = zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(difference < 1e-5, sourceLocation: sourceLocation)
    }

    private static func linear() throws -> Pair {
        var pair = Pair()
        for layer in 0..<2 {
            try pair.add(weight: "model.layers.\(layer).attn.q_proj.weight", [6, 5])
            try pair.add(matrices: "model.layers.\(layer).attn.q_proj", [2, 5], [6, 2])
        }
        return pair
    }

    // MARK: Scales

    @Test(
        arguments: [
            (#""q_proj": 8, "layers.1.attn.q_proj": 2"#, [4.0, 4.0]),
            (#""layers.1.attn.q_proj": 2, "q_proj": 8"#, [4.0, 1.0]),
            (#""1.attn.q_proj": 6"#, [2.0, 3.0]),
            (#""^model.layers.0.attn.q_proj": 6"#, [3.0, 2.0]),
            (#""^layers.0.attn.q_proj": 6"#, [2.0, 2.0]),
            (#"".*\\.layers\\.1\\..*(q_proj|k_proj)$": 6"#, [2.0, 3.0]),
        ])
    func theFirstPatternThatFitsCounts(_ patterns: String, _ scales: [Double]) throws {
        let pair = try Self.linear()
        let merged = try pair.merged(#""alpha_pattern": {\#(patterns)}"#)
        for layer in 0..<2 {
            let module = "model.layers.\(layer).attn.q_proj"
            Self.expectEqual(
                try merged.doubles(module + ".weight"),
                try pair.sum(module + ".weight", module, outputs: 6, inputs: 5, scale: scales[layer]))
        }
    }

    @Test func rankStabilizedScalesTakeTheRootOfTheModulesRank() throws {
        var pair = Pair()
        try pair.add(weight: "a.weight", [6, 5])
        try pair.add(matrices: "a", [9, 5], [6, 9])
        let merged = try pair.merged(#""use_rslora": true, "rank_pattern": {"a": 9}, "alpha_pattern": {"a": 6}"#)
        Self.expectEqual(
            try merged.doubles("a.weight"), try pair.sum("a.weight", "a", outputs: 6, inputs: 5, rank: 9, scale: 2))
        #expect(pair.refusal().contains("another rank"))
        // The first that fits counts here too.
        #expect(pair.refusal(#""rank_pattern": {"[ab]": 3, "a": 9}"#).contains("expected 3, found 9"))
    }

    // MARK: The configuration

    @Test(
        arguments: [
            (#""use_qalora": true"#, "use_qalora"), (#""layer_replication": [[0, 2], [1, 3]]"#, "layer_replication"),
            (#""megatron_config": {"a": 1}"#, "megatron_config"), (#""alora_invocation_tokens": [1]"#, "alora_invocation_tokens"),
            (#""velora_config": {"scale": 1}"#, "velora_config"), (#""monteclora_config": {"a": 1}"#, "monteclora_config"),
            (#""use_bdlora": {"nblocks": 2}"#, "use_bdlora"), (#""arrow_config": {"top_k": 3}"#, "arrow_config"),
            (#""kasa_config": {"beta": 1}"#, "kasa_config"), (#""use_hyper_scale": true"#, "use_hyper_scale"),
            (#""another": 0"#, "another"), (#""another": "x""#, "another"), (#""another": [0]"#, "another"),
            (#""init_lora_weights": "pissa""#, "pissa"), (#""init_lora_weights": "pissa_niter_4""#, "pissa_niter_4"),
            (#""init_lora_weights": "OLoRA""#, "OLoRA"), (#""init_lora_weights": "corda""#, "corda"),
            (#""init_lora_weights": "loftq""#, "loftq"), (#""init_lora_weights": "lora_ga""#, "lora_ga"),
            (#""init_lora_weights": "new""#, "new"), (#""bias": "some""#, "some"), (#""bias": true"#, "bias"),
            (#""use_dora": "false""#, "use_dora"), (#""alpha_pattern": [1]"#, "alpha_pattern"),
            (#""alpha_pattern": {"a": "1"}"#, "alpha_pattern"), (#""alpha_pattern": {"(": 1}"#, "alpha_pattern"),
            (#""rank_pattern": {"a": 1.5}"#, "rank_pattern"), (#""rank_pattern": {"a": 1e300}"#, "rank_pattern"),
            (#""modules_to_save": 1"#, "modules_to_save"),
            (#""trainable_token_indices": [-1]"#, "trainable_token_indices"),
        ])
    func whatIsNotUnderstoodIsRefusedByName(_ members: String, _ name: String) throws {
        #expect(try Self.linear().refusal(members).contains(name))
    }

    @Test(
        arguments: [
            #""use_hyper_scale": false, "next": null, "more": {}, "and": []"#, #""init_lora_weights": "gaussian""#,
            #""init_lora_weights": "orthogonal""#, #""init_lora_weights": "eva", "eva_config": {"rho": 2.0}"#,
            #""init_lora_weights": false"#, #""lora_dropout": 0.5, "megatron_core": "megatron.core", "task_type": "CAUSAL_LM""#,
            #""base_model_name_or_path": "x", "revision": "y", "inference_mode": true, "auto_mapping": {"a": "b"}"#,
            #""qalora_group_size": 16, "use_qalora": false, "layer_replication": null, "loftq_config": {"loftq_bits": 4}"#,
            #""target_modules": ["q_proj"], "exclude_modules": ["k_proj"], "layers_to_transform": [0, 1]"#,
            #""target_modules": "all-linear""#, #""target_modules": ".*\\.(?<=x)q_proj""#, #""ensure_weight_tying": true"#,
        ])
    func whatChangesNothingIsPassedOver(_ members: String) throws {
        let pair = try Self.linear()
        let name = "model.layers.0.attn.q_proj.weight"
        #expect(try pair.merged(members).doubles(name) == pair.merged().doubles(name))
    }

    @Test(arguments: [("ADALORA", "AdaLoRA"), ("IA3", "(IA)³"), ("PREFIX_TUNING", "prefix tuning"), ("XYZ", "XYZ")])
    func otherAdaptersAreRefusedInWords(_ type: String, _ word: String) {
        let error = #expect(throws: CairnError.self) {
            try LowRankAdapter.Configuration(json: #"{"peft_type": "\#(type)", "r": 2, "lora_alpha": 4}"#)
        }
        #expect(error.map { "\($0)" }?.contains(word) == true && error.map { "\($0)" }?.contains("string(") == false)
    }

    @Test(
        arguments: [
            #""exclude_modules": ["layers.1.attn.q_proj"]"#, #""exclude_modules": ".*\\.1\\..*""#,
            #""target_modules": ["k_proj"]"#, #""target_modules": ".*\\.0\\..*""#,
            #""target_modules": ["q_proj"], "layers_to_transform": 0"#,
            #""target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers""#,
        ])
    func matricesThatTheConfigurationLeavesOutAreRefused(_ members: String) throws {
        #expect(try Self.linear().refusal(members).contains("leaves out"))
    }

    // MARK: Shapes

    @Test func kernelsAreMatricesOfTheirFirstDimension() throws {
        var pair = Pair()
        try pair.add(weight: "a.weight", [4, 3, 3, 2])
        try pair.add(matrices: "a", [2, 3, 3, 2], [4, 2, 1, 1])
        try pair.add(weight: "b.weight", [4, 3, 1, 1])
        try pair.add(matrices: "b", [2, 3, 1, 1], [4, 2, 1, 1])
        try pair.add(weight: "c.weight", [4, 3, 5])
        try pair.add(matrices: "c", [2, 3, 5], [4, 2, 1])
        let merged = try pair.merged()
        for (module, inputs) in [("a", 18), ("b", 3), ("c", 15)] {
            Self.expectEqual(
                try merged.doubles(module + ".weight"),
                try pair.sum(module + ".weight", module, outputs: 4, inputs: inputs, scale: 2))
        }
        // A region of a kernel, whose rows are in several runs.
        let whole = try merged.doubles("a.weight")
        let part = try Tensor(.f32, [2, 2, 3, 1]) { span in
            try merged.read("a.weight", region: Region(offsets: [1, 1, 0, 1], shape: [2, 2, 3, 1]), into: &span)
        }
        var expected: [Double] = []
        for (output, input) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            for row in 0..<3 {
                let place: Int = output * 18 + input * 6 + row * 2 + 1
                expected.append(whole[place])
            }
        }
        #expect(try part.converted(to: .f64).elements(as: Double.self) == expected)
    }

    /// Experts in one parameter, stored either way, and two parameters of one module wrapped one around the other.
    @Test func expertsHaveProductsOfTheirOwn() throws {
        for isTransposed in [false, true] {
            var pair = Pair()
            let (experts, rank) = (3, 2)
            let shapes = ["up": (outputs: 8, inputs: 5), "down": (outputs: 5, inputs: 4)]
            for (name, shape) in shapes {
                let extents = isTransposed ? [shape.inputs, shape.outputs] : [shape.outputs, shape.inputs]
                try pair.add(weight: "mlp.experts.\(name)", Shape([experts] + extents))
            }
            try pair.add(matrices: "mlp.experts.base_layer", [6, 5], [8, 6])
            try pair.add(matrices: "mlp.experts", [6, 4], [5, 6])
            let merged = try pair.merged(#""target_parameters": ["experts.down", "mlp.experts.up"], "target_modules": []"#)
            for (name, module) in [("up", "mlp.experts.base_layer"), ("down", "mlp.experts")] {
                let (outputs, inputs) = shapes[name] ?? (0, 0)
                let a = try pair.numbers(module + ".lora_A.weight"), b = try pair.numbers(module + ".lora_B.weight")
                var expected = try pair.model.doubles("mlp.experts." + name)
                for expert in 0..<experts {
                    for output in 0..<outputs {
                        for input in 0..<inputs {
                            let within: Int = isTransposed ? input * outputs + output : output * inputs + input
                            let place: Int = expert * outputs * inputs + within
                            for index in 0..<rank {
                                let left: Double = b[output * 6 + index * experts + expert]
                                let right: Double = a[(expert * rank + index) * inputs + input]
                                expected[place] += 2 * left * right
                            }
                        }
                    }
                }
                Self.expectEqual(try merged.doubles("mlp.experts." + name), expected)
            }
        }
        var square = Pair()
        try square.add(weight: "experts.w", [3, 4, 4])
        try square.add(matrices: "experts", [6, 4], [4, 6])
        #expect(square.refusal(#""target_parameters": ["experts.w"]"#).contains("do not say how"))
    }

    @Test func theShapeSaysHowAWeightIsStored() throws {
        var pair = Pair()
        try pair.add(weight: "attn.c_attn.weight", [4, 12])
        try pair.add(weight: "attn.c_attn.bias", [12])
        try pair.add(weight: "attn.c_proj.weight", [4, 4])
        try pair.add(matrices: "attn.c_attn", [2, 4], [12, 2])
        try pair.add(matrices: "attn.c_proj", [2, 4], [4, 2])
        let merged = try pair.merged(#""fan_in_fan_out": true"#)
        for (module, outputs) in [("attn.c_attn", 12), ("attn.c_proj", 4)] {
            let a = try pair.numbers(module + ".lora_A.weight"), b = try pair.numbers(module + ".lora_B.weight")
            var expected = try pair.model.doubles(module + ".weight")
            for input in 0..<4 {
                for output in 0..<outputs {
                    for index in 0..<2 {
                        let product: Double = b[output * 2 + index] * a[index * 4 + input]
                        expected[input * outputs + output] += 2 * product
                    }
                }
            }
            Self.expectEqual(try merged.doubles(module + ".weight"), expected)
        }
        // Square, and what lies beside it says the contrary.
        #expect(pair.refusal(#""fan_in_fan_out": false"#).contains("fan_in_fan_out true, as layers beside it are"))
        var alone = Pair()
        try alone.add(weight: "a.weight", [4, 4])
        try alone.add(matrices: "a", [2, 4], [4, 2])
        Self.expectEqual(
            try alone.merged().doubles("a.weight"), try alone.sum("a.weight", "a", outputs: 4, inputs: 4, scale: 2))
        #expect(alone.refusal(#""fan_in_fan_out": true"#).contains("cannot be told"))
    }

    // MARK: Rounding

    /// PEFT rounds the product of an embedding to the weight's type before it adds it, and no other.
    @Test func productsOfEmbeddingsAreRoundedFirst() throws {
        for isEmbedding in [false, true] {
            var pair = Pair()
            pair.model.add("a.weight", try Tensor([256, 256] as [Float], [1, 2]).converted(to: .bf16))
            let (a, b) = isEmbedding ? ("lora_embedding_A", "lora_embedding_B") : ("lora_A.weight", "lora_B.weight")
            let half: [Float] = [0.5 + 0x1p-10]
            let ones: [Float] = [1, 1]
            pair.adapter.add("base_model.model.a.\(a)", try Tensor(isEmbedding ? half : ones, isEmbedding ? [1, 1] : [1, 2]))
            pair.adapter.add("base_model.model.a.\(b)", try Tensor(isEmbedding ? ones : half, isEmbedding ? [2, 1] : [1, 1]))
            let merged = try pair.merged(rank: 1, alpha: 2)
            #expect(try merged.doubles("a.weight") == (isEmbedding ? [256, 256] : [258, 258]))
        }
    }

    // MARK: DoRA

    @Test func outputsGetTheLengthsOfDoRA() throws {
        var pair = Pair()
        try pair.add(weight: "a.weight", [6, 5])
        try pair.add(matrices: "a", [2, 5], [6, 2])
        try pair.add("a.lora_magnitude_vector", [6])
        let merged = try pair.merged(#""use_dora": true"#)
        let sum = try pair.sum("a.weight", "a", outputs: 6, inputs: 5, scale: 2)
        let lengths = try pair.numbers("a.lora_magnitude_vector")
        Self.expectEqual(
            try merged.doubles("a.weight"),
            sum.indices.map { index -> Double in
                let first: Int = index / 5 * 5
                var square = 0.0
                for number in sum[first..<first + 5] { square += number * number }
                return sum[index] * lengths[index / 5] / square.squareRoot()
            })
        #expect(pair.refusal().contains("use_dora true"))
        try pair.add(weight: "b.weight", [6, 5])
        try pair.add(matrices: "b", [2, 5], [6, 2])
        #expect(pair.refusal(#""use_dora": true"#).contains("lora_magnitude_vector of b"))
    }

    /// An embedding's outputs are its columns; chunks that are shorter than it come in turn.
    @Test func columnsGetTheLengthsOfDoRA() throws {
        var pair = Pair()
        try pair.add(weight: "a.weight", [3000, 40])
        try pair.add(matrices: "a", [2, 3000], [40, 2], isEmbedding: true)
        try pair.add("a.lora_magnitude_vector", [40])
        let merged = try pair.merged(#""use_dora": true"#)
        let (w, a, b) = (
            try pair.model.doubles("a.weight"), try pair.numbers("a.lora_embedding_A"), try pair.numbers("a.lora_embedding_B")
        )
        let sum = w.indices.map { index -> Double in
            let (row, column) = (index / 40, index % 40)
            let product: Double = b[column * 2] * a[row] + b[column * 2 + 1] * a[3000 + row]
            return w[index] + 2 * product
        }
        var squares = [Double](repeating: 0, count: 40)
        for index in sum.indices { squares[index % 40] += sum[index] * sum[index] }
        let lengths = try pair.numbers("a.lora_magnitude_vector")
        Self.expectEqual(
            try merged.doubles("a.weight"),
            sum.indices.map { index -> Double in
                let column = index % 40
                return sum[index] * lengths[column] / squares[column].squareRoot()
            })
    }

    // MARK: What else is trained

    @Test func biasesAndWholeModulesTakeTheirPlaces() throws {
        var pair = Pair()
        for name in ["a", "b", "head"] {
            try pair.add(weight: name + ".weight", [6, 5], .bf16)
            try pair.add(weight: name + ".bias", [6], .bf16)
        }
        try pair.add(matrices: "a", [2, 5], [6, 2])
        try pair.add("a.base_layer.bias", [6])
        try pair.add("a.base_layer.weight", [6, 5], .bf16)
        try pair.add("b.bias", [6])
        try pair.add("head.weight", [6, 5])
        try pair.add("head.bias", [6])
        try pair.add("new.weight", [2, 2])
        let members = #""bias": "all", "modules_to_save": ["head", "new"]"#
        let merged = try pair.merged(members)
        #expect(merged.tensors.allSatisfy { $0.scalarType == .bf16 })
        for (name, source) in [
            ("a.bias", "a.base_layer.bias"), ("b.bias", "b.bias"), ("head.weight", "head.weight"), ("head.bias", "head.bias"),
            ("new.weight", "new.weight"),
        ] {
            let expected = try pair.adapter.tensor("base_model.model." + source).converted(to: .bf16)
            #expect(try merged.tensor(name) == expected, "\(name)")
        }
        #expect(try merged.tensor("b.weight") == pair.model.tensor("b.weight"))
        #expect(merged.notes.contains { $0.contains("new.weight") })
        // The model's own weight as it was saved, then the product.
        var saved = pair
        saved.model = MemoryCheckpoint("model")
        saved.model.add("a.weight", try pair.adapter.tensor("base_model.model.a.base_layer.weight"))
        let sum = try saved.sum("a.weight", "a", outputs: 6, inputs: 5, scale: 2)
        let found = try merged.doubles("a.weight")
        #expect(zip(found, sum).allSatisfy { abs($0 - $1) <= 0x1p-8 * abs($1) })

        #expect(pair.refusal(#""bias": "all", "modules_to_save": ["head"]"#).contains("new.weight"))
        try pair.add(weight: "c.bias", [3])
        #expect(pair.refusal(members).contains("c.bias"))
        #expect(pair.refusal(#""modules_to_save": ["c"]"#).contains("saved whole"))
    }

    @Test func biasesOfProductsAreAdded() throws {
        var pair = Pair()
        try pair.add(weight: "a.weight", [6, 5])
        try pair.add(matrices: "a", [2, 5], [6, 2])
        try pair.add("a.lora_B.bias", [6])
        #expect(pair.refusal(#""lora_bias": true"#).contains("a.bias"))
        try pair.add(weight: "a.bias", [6])
        let (old, bias) = (try pair.model.doubles("a.bias"), try pair.numbers("a.lora_B.bias"))
        Self.expectEqual(try pair.merged(#""lora_bias": true"#).doubles("a.bias"), zip(old, bias).map { $0 + 2 * $1 })
        #expect(pair.refusal().contains("lora_bias true"))
    }

    @Test func rowsOfTokensTakeTheirPlaces() throws {
        var pair = try Self.linear()
        try pair.add(weight: "model.embed_tokens.weight", [7, 3])
        let without = #""trainable_token_indices": [1]"#
        #expect(pair.refusal(without).contains("trainable_tokens_delta"))
        try pair.add("model.embed_tokens.token_adapter.trainable_tokens_delta", [2, 3])
        for members in [#""trainable_token_indices": [5, 0]"#, #""trainable_token_indices": {"embed_tokens": [5, 0]}"#] {
            var expected = try pair.model.doubles("model.embed_tokens.weight")
            let rows = try pair.numbers("model.embed_tokens.token_adapter.trainable_tokens_delta")
            expected.replaceSubrange(15..<18, with: rows[..<3])
            expected.replaceSubrange(0..<3, with: rows[3...])
            #expect(try pair.merged(members).doubles("model.embed_tokens.weight") == expected)
        }
        #expect(pair.refusal(without).contains("rows do not fit"))
        #expect(pair.refusal(#""trainable_token_indices": [5, 7]"#).contains("rows do not fit"))
        #expect(pair.refusal(#""trainable_token_indices": [5, 5]"#).contains("rows do not fit"))
        #expect(pair.refusal().contains("trainable_token_indices"))
        let both = #""trainable_token_indices": [5, 0], "modules_to_save": ["embed_tokens"]"#
        #expect(pair.refusal(both).contains("saved whole"))
    }

    @Test func layersThatAreOneChangeTogetherOrPart() throws {
        var pair = Pair()
        try pair.add(weight: "embed.weight", [7, 5])
        pair.model.add("lm_head.weight", try pair.model.tensor("embed.weight"), tiedTo: "embed.weight")
        try pair.add(matrices: "lm_head", [2, 5], [7, 2])
        let merged = try pair.merged()
        let sum = try pair.sum("embed.weight", "lm_head", outputs: 7, inputs: 5, scale: 2)
        Self.expectEqual(try merged.doubles("embed.weight"), sum)
        #expect(merged.tensors.contains { $0.tiedTo == "embed.weight" } && merged.notes.count == 1)
        try pair.add(matrices: "embed", [2, 7], [5, 2], isEmbedding: true)
        #expect(pair.refusal().contains("two modules of the adapter change one tensor"))

        var saved = Pair()
        try saved.add(weight: "embed.weight", [7, 5])
        saved.model.add("lm_head.weight", try saved.model.tensor("embed.weight"), tiedTo: "embed.weight")
        try saved.add("lm_head.weight", [7, 5])
        let parted = try saved.merged(#""modules_to_save": ["lm_head"]"#)
        #expect(parted.tensors.allSatisfy { $0.tiedTo == nil })
        #expect(try parted.doubles("embed.weight") == saved.model.doubles("embed.weight"))
        #expect(try parted.doubles("lm_head.weight") == saved.numbers("lm_head.weight"))
    }

    // MARK: Names

    @Test func namesWithoutThePrefixAreRead() throws {
        var pair = Pair()
        try pair.add(weight: "model.a.weight", [6, 5])
        try pair.add(matrices: "model.a", [2, 5], [6, 2], prefix: "")
        #expect(try pair.merged().doubles("model.a.weight") != pair.model.doubles("model.a.weight"))
        var short = Pair()
        try short.add(weight: "model.a.weight", [6, 5])
        try short.add(matrices: "a", [2, 5], [6, 2])
        #expect(short.refusal().contains("the model has model.a.weight"))
        try short.add(weight: "other.a.weight", [6, 5])
        #expect(short.refusal().contains("the model has 2 that end alike"))
    }

    @Test func namesOfImageTrainersAreRead() throws {
        var pair = Pair()
        try pair.add(weight: "down_blocks.0.to_q.weight", [6, 5])
        var adapter = MemoryCheckpoint("adapter")
        var random = RandomTensors(seed: 9)
        let name = "lora_unet_down_blocks_0_to_q"
        adapter.add(name + ".lora_down.weight", try random.tensor([2, 5]))
        adapter.add(name + ".lora_up.weight", try random.tensor([6, 2]))
        func merged(_ adapter: MemoryCheckpoint, alpha: Double? = nil) throws -> MergedCheckpoint {
            try MergedCheckpoint(
                MergeInput(pair.model), adapters: [LowRankAdapter(MergeInput(adapter), configuration: .init(alpha: alpha))])
        }
        #expect(throws: CairnError.self) { try merged(adapter) }
        adapter.add(name + ".alpha", try Tensor([3] as [Float], []))
        let (w, a, b) = (
            try pair.model.doubles("down_blocks.0.to_q.weight"), try adapter.doubles(name + ".lora_down.weight"),
            try adapter.doubles(name + ".lora_up.weight")
        )
        Self.expectEqual(
            try merged(adapter).doubles("down_blocks.0.to_q.weight"),
            w.indices.map { index -> Double in
                let (row, column) = (index / 5, index % 5)
                let product: Double = b[row * 2] * a[column] + b[row * 2 + 1] * a[5 + column]
                return w[index] + 1.5 * product
            })
        #expect(throws: CairnError.self) { try merged(adapter, alpha: 2) }
        try pair.add(weight: "down.blocks_0.to_q.weight", [6, 5])
        let error = #expect(throws: CairnError.self) { try merged(adapter) }
        #expect(error.map { "\($0)" }?.contains("down.blocks_0.to_q, down_blocks.0.to_q") == true)
    }

    @Test func whatFitsNowhereIsRefusedByName() throws {
        var lost = try Self.linear()
        try lost.add("model.layers.0.attn.k_proj.lora_A.weight", [2, 5])
        #expect(lost.refusal().contains("lora_B of model.layers.0.attn.k_proj"))
        var stray = try Self.linear()
        try stray.add("model.layers.0.attn.q_proj.lora_velora_embed", [2])
        #expect(stray.refusal().contains("lora_velora_embed"))
        var inner = try Self.linear()
        try inner.add("model.layers.0.attn.q_proj.weight", [6, 5])
        #expect(inner.refusal().contains("model.layers.0.attn.q_proj.weight"))
        var twice = try Self.linear()
        try twice.add("model.layers.0.attn.q_proj.lora_A.default.weight", [2, 5])
        #expect(twice.refusal().contains("same of one module"))
        var shape = Pair()
        try shape.add(weight: "a.weight", [6, 4])
        try shape.add(matrices: "a", [2, 5], [6, 2])
        #expect(shape.refusal().contains("do not fit the weight"))
        var ranks = Pair()
        try ranks.add(weight: "a.weight", [6, 5])
        try ranks.add(matrices: "a", [2, 5], [6, 3])
        #expect(ranks.refusal().contains("do not belong to each other"))
        #expect(Pair().refusal().contains("no tensors"))
        // Elements that nothing can be added to are not left as they were.
        var quantized = Pair()
        quantized.model.add("a.weight", try Tensor([UInt8](repeating: 3, count: 30), [6, 5]))
        try quantized.add(matrices: "a", [2, 5], [6, 2])
        #expect(quantized.refusal().contains("not floating-point numbers"))
    }
}
