import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

@Suite struct MergeRecipes {
    /// Models of three layers, with tensors before and behind them.
    static func models(_ count: Int, layers: Int = 3) throws -> [String: MemoryCheckpoint] {
        var random = RandomTensors(seed: 50)
        var models: [String: MemoryCheckpoint] = [:]
        for index in 0..<count {
            var model = MemoryCheckpoint("m\(index)", isMapped: true)
            model.add("model.embed_tokens.weight", try random.tensor([8, 4]))
            for layer in 0..<layers {
                model.add("model.layers.\(layer).mlp.weight", try random.tensor([6, 4]))
                model.add("model.layers.\(layer).attn.weight", try random.tensor([4, 4]))
            }
            model.add("model.norm.weight", try random.tensor([4]))
            model.add("lm_head.weight", try random.tensor([8, 4]))
            models["m\(index)"] = model
        }
        return models
    }

    static func merge(
        _ yaml: String, _ models: [String: MemoryCheckpoint], seed: UInt64 = 0
    ) throws -> MergedCheckpoint {
        var options = MergeOptions()
        options.seed = seed
        return try MergedCheckpoint(recipe: MergeRecipe(yaml: yaml, file: "recipe.yml"), options: options) { name in
            guard let model = models[name] else { throw CairnError(.notFound, "no model", .init(found: name)) }
            return MergeInput(model)
        }
    }

    @Test func parametersComeFromTheClosestPlaceThatSetsThem() throws {
        let models = try Self.models(2)
        let merged = try Self.merge(
            """
            merge_method: linear
            models:
              - model: m0
                parameters:
                  weight:
                    - filter: mlp
                      value: [0, 1]      # along the layers
                    - value: 0.25
              - model: m1
            parameters: {weight: 2, normalize: false}
            dtype: float32
            """, models)
        let (one, other) = (try #require(models["m0"]), try #require(models["m1"]))
        let expected: [(String, Float)] = [
            ("model.layers.0.mlp.weight", 0), ("model.layers.1.mlp.weight", 0.5), ("model.layers.2.mlp.weight", 1),
            ("model.layers.1.attn.weight", 0.25), ("lm_head.weight", 0.25),
        ]
        for (name, weight) in expected {
            let sum = zip(try one.floats(name), try other.floats(name)).map { weight * $0 + 2 * $1 }
            for (a, b) in zip(try merged.floats(name), sum) { #expect(abs(a - b) < 1e-6, "\(name)") }
        }
        #expect(merged.lineage.operation == "merge")
        #expect(merged.lineage.details["method"] == .string("linear"))
        #expect(merged.lineage.parents.map(\.coefficient) == [nil, 2])
    }

    @Test func theBaseIsAddedAndComesFirst() throws {
        let models = try Self.models(3)
        let merged = try Self.merge(
            """
            merge_method: task_arithmetic
            base_model: m2
            models:
              - model: m0
                parameters: {weight: 0.5}
              - model: {model: {path: m1}}
                parameters: {weight: 1e-1}
            parameters: {lambda: 2, int8_mask: true}
            """, models)
        let name = "lm_head.weight"
        let parts = try ["m0", "m1", "m2"].map { try #require(models[$0]).floats(name) }
        for (index, found) in try merged.floats(name).enumerated() {
            let base = parts[2][index]
            #expect(abs(found - (base + 2 * (0.5 * (parts[0][index] - base) + 0.1 * (parts[1][index] - base)))) < 1e-5)
        }
    }

    @Test func slicesAreStackedAndRenamed() throws {
        let models = try Self.models(2)
        let merged = try Self.merge(
            """
            merge_method: passthrough
            slices:
              - sources:
                  - {model: m0, layer_range: [0, 2]}
              - sources:
                  - model: m1
                    layer_range: [1, 3]
                    parameters: {scale: [{filter: attn, value: 0.5}, {value: 1}]}
            dtype: float32
            out_dtype: bfloat16
            """, models)
        let (one, other) = (try #require(models["m0"]), try #require(models["m1"]))
        #expect(merged.tensors.count == 2 * 4 + 3)
        for (name, model, original, scale) in [
            ("model.layers.1.mlp.weight", one, "model.layers.1.mlp.weight", 1),
            ("model.layers.2.mlp.weight", other, "model.layers.1.mlp.weight", 1),
            ("model.layers.3.attn.weight", other, "model.layers.2.attn.weight", 0.5),
            ("model.embed_tokens.weight", one, "model.embed_tokens.weight", 1),
            ("model.norm.weight", other, "model.norm.weight", 1), ("lm_head.weight", other, "lm_head.weight", 1),
        ] as [(String, MemoryCheckpoint, String, Float)] {
            let scaled = try model.floats(original).map { $0 * scale }
            #expect(try merged.tensor(name) == Tensor(scaled, merged.description(of: name).shape).converted(to: .bf16), "\(name)")
        }
    }

    @Test func inputsAreRoundedToTheRecipesType() throws {
        let models = try Self.models(2)
        let recipe = { (dtype: String) in
            """
            merge_method: linear
            models: [{model: m0}, {model: m1}]
            parameters: {weight: 1}
            dtype: \(dtype)
            out_dtype: float32
            """
        }
        let rounded = try Self.merge(recipe("bfloat16"), models), whole = try Self.merge(recipe("float32"), models)
        let name = "lm_head.weight"
        let inputs = try ["m0", "m1"].map {
            try #require(models[$0]).tensor(name).converted(to: .bf16).converted(to: .f32).elements(as: Float.self)
        }
        #expect(try rounded.floats(name) == zip(inputs[0], inputs[1]).map { ($0 + $1) / 2 })
        #expect(try rounded.floats(name) != whole.floats(name))
    }

    @Test func everyMethodOfARecipeRuns() throws {
        let models = try Self.models(3)
        for method in [
            "linear", "multislerp", "karcher", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs",
            "breadcrumbs_ties", "model_stock",
        ] {
            let merged = try Self.merge(
                """
                merge_method: \(method)
                base_model: m0
                models: [{model: m0}, {model: m1}, {model: m2}]
                parameters: {weight: 0.5, density: 0.5, gamma: 0.1}
                """, models)
            for tensor in merged.tensors { #expect(try merged.doubles(tensor.name).allSatisfy(\.isFinite), "\(method)") }
        }
        let slerp = try Self.merge(
            "{merge_method: slerp, base_model: m0, models: [{model: m1}, {model: m0}], parameters: {t: 0}}", models)
        // The base is at t = 0 wherever it stands.
        let base = try #require(models["m0"])
        for tensor in base.tensors {
            for (one, other) in zip(try slerp.floats(tensor.name), try base.floats(tensor.name)) {
                #expect(abs(one - other) < 1e-6)
            }
        }
    }

    @Test(arguments: [
        ("merge_method: linear", "models"), ("models: []", "merge_method"),
        ("merge_method: della\nmodels: [{model: m0}]\nbase_model: m0\nparameters: {weight: 1}", "della"),
        ("merge_method: linear\nmodels: [{model: m0}]\nparameters: {weihgt: 1}", "weihgt"),
        ("merge_method: linear\nmodels: [{model: m0}]", "weight"),
        ("merge_method: linear\nmodels: [{model: m0}]\nparameters: {weight: heavy}", "number"),
        ("merge_method: linear\nmodels: [{model: m0}]\ntokenizer_source: union", "tokenizer"),
        ("merge_method: linear\nmodels: [{model: m0}]\ndtype: int8", "int8"),
        ("merge_method: ties\nmodels: [{model: m0}, {model: m1}]\nparameters: {weight: 1}", "base"),
        ("merge_method: slerp\nbase_model: m0\nmodels: [{model: m0}, {model: m1}]", "\"t\"|t"),
        ("merge_method: model_stock\nbase_model: m0\nmodels: [{model: m0}, {model: m1}]", "three"),
        ("merge_method: linear\nmodels: [{model: m0}, {model: m1}]\nparameters: {weight: [1, -1]}", ""),
        ("merge_method: passthrough\nslices: [{sources: [{model: m0, layer_range: [2, 5]}]}]", "layer 3"),
        ("merge_method: passthrough\nslices: [{sources: [{model: m0, layer_range: [2, 1]}]}]", "layers"),
        (
            "merge_method: linear\nslices: [{sources: [{model: m0, layer_range: [0, 2]}, {model: m1, layer_range: [0, 1]}]}]",
            "numbers of layers"
        ),
        ("merge_method: [", ""), ("", "empty"), ("- a", "keys"),
    ])
    func whatCannotBeIsSaid(yaml: String, mention: String) throws {
        let models = try Self.models(2)
        do {
            let merged = try Self.merge(yaml, models)
            // Weights along the layers may only fail for some of them.
            for tensor in merged.tensors { _ = try merged.tensor(tensor.name) }
            #expect(mention.isEmpty && !yaml.contains("["), "nothing was thrown for \(yaml)")
        } catch let error as CairnError {
            let mentions = mention.split(separator: "|")
            #expect(mentions.isEmpty || mentions.contains { error.description.contains($0) }, "\(error)")
        }
    }

    @Test func everyMismatchIsNamedBeforeAnythingIsRead() throws {
        var models = try Self.models(2)
        var random = RandomTensors(seed: 51)
        var other = MemoryCheckpoint("m1", isMapped: true)
        for tensor in try #require(models["m1"]).tensors where tensor.name != "lm_head.weight" {
            let shape: Shape = tensor.name == "model.norm.weight" ? [5] : tensor.shape
            other.add(tensor.name, try random.tensor(shape))
        }
        other.add("extra", try random.tensor([2]))
        other.add("counter", Tensor([1] as [Int64]))
        models["m1"] = other
        models["m0"]?.add("counter", Tensor([1] as [Float]))
        let error = #expect(throws: CairnError.self) {
            try Self.merge("{merge_method: linear, models: [{model: m0}, {model: m1}], parameters: {weight: 1}}", models)
        }
        #expect(error?.code == .mismatch)
        for name in ["lm_head.weight", "model.norm.weight", "extra", "counter"] {
            #expect(error?.description.contains("\"\(name)\"") == true, "\(name)")
        }
    }

    @Test func tiesOfAllModelsStay() throws {
        var random = RandomTensors(seed: 52)
        var models: [String: MemoryCheckpoint] = [:]
        for index in 0..<3 {
            var model = MemoryCheckpoint("m\(index)", isMapped: true)
            let embedding = try random.tensor([4, 2])
            model.add("embed.weight", embedding)
            model.add("head.weight", embedding, tiedTo: index < 2 ? "embed.weight" : nil)
            models["m\(index)"] = model
        }
        let yaml = { (other: String) in
            "{merge_method: linear, models: [{model: m0}, {model: \(other)}], parameters: {weight: 1}}"
        }
        let tied = try Self.merge(yaml("m1"), models), mixed = try Self.merge(yaml("m2"), models)
        #expect(tied.tensors.map(\.tiedTo) == [nil, "embed.weight"])
        #expect(mixed.tensors.map(\.tiedTo) == [nil, nil])
        for merged in [tied, mixed] { #expect(try merged.tensor("head.weight") == merged.tensor("embed.weight")) }
    }
}
