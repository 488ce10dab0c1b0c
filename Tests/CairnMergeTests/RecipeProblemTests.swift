import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import Testing

/// What a recipe says wrong, or says in vain.
@Suite struct RecipeProblems {
    private static func two(_ parameters: String, method: String = "linear", rest: String = "") -> String {
        """
        merge_method: \(method)
        models:
          - model: m0
          - model: m1
        parameters: {\(parameters)}
        \(rest)
        """
    }

    private static func notes(_ yaml: String) throws -> [String] {
        try MergeRecipes.merge(yaml, MergeRecipes.models(3)).notes
    }

    /// Each is refused with the file, the line and the value.
    @Test(arguments: [
        ("weight: 010", "leading zeros"), ("weight: -007", "leading zeros"), ("weight: 1_0", "1_0"), ("weight: 1:30", "1:30"),
        ("weight: .inf", ".inf"), ("weight: .nan", ".nan"), ("weight: nan", "nan"), ("weight: 1e999", "1e999"),
        ("weight: heavy", "heavy"), ("weight: [1, 2, x]", "\"x\"|x"), ("weight: 1, normalize: maybe", "maybe"),
        ("weight: 1, normalize: 2", "true or false"), ("weight: 1, density: 1.5", "from 0 to 1"),
        ("weight: 1, density: -0.5", "from 0 to 1"),
        ("weight: 1, density: [1, 0.5, 1.01]", "1.01"), ("weight: 1, gamma: 2", "from 0 to 1"),
        ("weight: 1, eps: -1", "not negative"),
        ("weight: 1, max_iter: 3.7", "whole number"), ("weight: 1, tol: 0", "above 0"), ("weight: 1, lambda: .inf", ".inf"),
        ("weight: [{filter: mlp, value: 011}, {value: 1}]", "leading zeros"), ("weight: [{filter: mlp, value: }]", "nothing"),
    ])
    func aValueThatCannotBeIsNamed(parameters: String, mention: String) throws {
        let error = #expect(throws: CairnError.self, "\(parameters)") { try Self.notes(Self.two(parameters)) }
        let text = "\(error.map(\.description) ?? "")"
        #expect(text.contains("recipe.yml") && text.contains("line 5"), "\(text)")
        #expect(mention.split(separator: "|").contains { text.contains($0) }, "\(text)")
    }

    /// The same of a recipe that was not read from a text.
    @Test func aRecipeMadeInCodeIsCheckedAsWell() throws {
        let models = try MergeRecipes.models(2)
        for (method, parameters) in [
            ("ties", ["weight": .scalar(.number(1)), "density": .scalar(.number(1.5))]),
            ("linear", ["weight": .gradient([.number(1), .number(.nan)])]), ("linear", ["wight": .scalar(.number(1))]),
            ("della", ["weight": .scalar(.number(1))]),
        ] as [(String, [String: MergeRecipe.Setting])] {
            let recipe = MergeRecipe(
                method: method, content: .models([.init(model: "m0"), .init(model: "m1")]), baseModel: "m0",
                parameters: parameters)
            var isOpened = false
            let error = #expect(throws: CairnError.self) {
                try MergedCheckpoint(recipe: recipe) { name in
                    isOpened = true
                    return MergeInput(models[name] ?? MemoryCheckpoint(name))
                }
            }
            #expect(error != nil && !isOpened, "\(method)")
        }
    }

    @Test(
        arguments: [
            ("No", false), ("Off", false), ("FALSE", false), ("off", false), ("n0", nil), ("Yes", true), ("TRUE", true),
            ("On", true),
            ("1", true),
        ] as [(String, Bool?)])
    func yesAndNoAreReadInEverySpelling(word: String, value: Bool?) throws {
        let yaml = Self.two("weight: 1, normalize: \(word)")
        guard let value else {
            #expect(throws: CairnError.self) { try MergeRecipe(yaml: yaml) }
            return
        }
        let merged = try MergeRecipes.merge(yaml, MergeRecipes.models(2))
        let plain = try MergeRecipes.merge(Self.two("weight: 1, normalize: \(value)"), MergeRecipes.models(2))
        #expect(try merged.floats("lm_head.weight") == plain.floats("lm_head.weight"))
    }

    @Test func textsAreReadAsYAMLReadersDo() throws {
        let models = try MergeRecipes.models(2)
        let plain = try MergeRecipes.merge(
            "{merge_method: linear, models: [{model: m0, parameters: {weight: 0.3}}, {model: m1, parameters: {weight: 1}}]}",
            models)
        for yaml in [
            // A byte-order mark, keys that are taken over, what is written as nothing.
            "\u{FEFF}merge_method: linear\nmodels: [{model: m0, parameters: {weight: 0.3}}, {model: m1, parameters: {weight: 1}}]",
            """
            merge_method: linear
            slices: null
            base_model: ~
            models:
              - model: m0
                parameters: &p {weight: 0.3, normalize: null}
              - model: m1
                parameters: {<<: [*p], weight: 1}
            """,
            """
            merge_method: linear
            models:
              - model: m1
                parameters: {weight: 1}
              - &m
                model: m0
                parameters: {weight: 0.3}
              - {<<: *m, parameters: {weight: 0}}
            """,
            // A key that is there for its anchor.
            """
            p: &p {weight: 0.3}
            merge_method: linear
            models: [{model: m0, parameters: *p}, {model: m1, parameters: {weight: 1}}]
            """,
        ] {
            let merged = try MergeRecipes.merge(yaml, models)
            for (one, other) in zip(try merged.floats("lm_head.weight"), try plain.floats("lm_head.weight")) {
                #expect(abs(one - other) < 1e-6, "\(yaml)")
            }
        }
        let error = #expect(throws: CairnError.self) {
            try MergeRecipe(yaml: "merge_method: linear\nmodels: []\n---\nmerge_method: linear", file: "two.yml")
        }
        #expect(error?.description.contains("second document") == true && error?.description.contains("line 3") == true)
    }

    @Test func anUnknownMethodIsNamedBeforeItsParameters() throws {
        for method in ["della", "nuslerp", "sce"] {
            let error = #expect(throws: CairnError.self) {
                try MergeRecipe(yaml: Self.two("epsilon: 0.1, select_topk: 3", method: method), file: "recipe.yml")
            }
            #expect(error?.code == .unsupported && error?.description.contains(method) == true)
            #expect(error?.description.contains("breadcrumbs_ties") == true && error?.description.contains("line 1") == true)
        }
    }

    @Test func aFilterThatFitsNoTensorIsAnError() throws {
        let error = #expect(throws: CairnError.self) {
            try Self.notes(Self.two("weight: [{filter: mlp, value: 2}, {filter: vision_tower, value: 5}, {value: 1}]"))
        }
        #expect(error?.code == .notFound && error?.description.contains("vision_tower") == true)
        #expect(error?.description.contains("line 5: parameters.weight[1]") == true, "\(String(describing: error))")
        #expect(try Self.notes(Self.two("weight: [{filter: mlp, value: 2}, {filter: '*', value: 1}]")).isEmpty)
    }

    @Test func whatChangesNothingIsSaid() throws {
        let idle = try Self.notes(
            """
            merge_method: ties
            base_model: m0
            models:
              - model: m0
                parameters: {weight: 0.3}
              - model: m1
                parameters: {weight: 0.3, density: 0}
              - model: m2
                parameters: {weight: 0.3}
            parameters:
              t: 0.5
              int8_mask: true
              weight: 0.5
              density: [{filter: model, value: 1}, {filter: mlp, value: 0.5}, {value: 1}]
            """)
        #expect(idle.count == 2)
        for place in [
            "models[0].parameters.weight", "parameters.t", "parameters.int8_mask", "parameters.weight", "parameters.density[1]",
        ] {
            #expect(idle[0].contains(place), "\(idle)")
        }
        #expect(!idle[0].contains("models[1]") && !idle[0].contains("density[0]") && !idle[0].contains("density[2]"))
        #expect(idle[1].contains("density is 0") && idle[1].contains("m1 in 9 tensors"))
    }

    @Test func aModelThatIsListedTwiceCountsTwice() throws {
        let models = try MergeRecipes.models(3)
        let twice = try MergeRecipes.merge(
            """
            merge_method: linear
            models: [{model: m0}, {model: m0}, {model: m1}]
            parameters: {weight: 1}
            """, models)
        #expect(twice.lineage.parents.map(\.source) == ["m0", "m1"])
        #expect(twice.lineage.parents.map { ($0.coefficient ?? 0) * 3 } == [2, 1])
        let slices = try MergeRecipes.merge(
            """
            merge_method: linear
            slices: [{sources: [{model: m0, layer_range: [0, 1]}, {model: m0, layer_range: [1, 2]}]}]
            parameters: {weight: 0.5}
            """, models)
        #expect(slices.lineage.parents.map(\.coefficient) == [1])
        for method in ["task_arithmetic", "slerp", "multislerp", "model_stock"] {
            let error = #expect(throws: CairnError.self) {
                try MergeRecipes.merge(
                    """
                    merge_method: \(method)
                    base_model: m0
                    models: [{model: m0}, {model: m1}, {model: m0}]
                    parameters: {weight: 1, t: 0.5}
                    """, models)
            }
            #expect(error?.description.contains("more than once") == true && error?.description.contains("m0") == true)
        }
    }

    @Test func aBaseThatNoSliceNamesIsRefusedOrSaid() throws {
        let yaml = { (method: String) in
            """
            merge_method: \(method)
            base_model: m2
            slices: [{sources: [{model: m0, layer_range: [0, 3]}, {model: m1, layer_range: [0, 3]}]}]
            parameters: {weight: 0.5}
            """
        }
        for method in ["multislerp", "ties"] {
            let error = #expect(throws: CairnError.self) { try Self.notes(yaml(method)) }
            #expect(error?.description.contains("needs a base") == true, "\(String(describing: error))")
        }
        let merged = try MergeRecipes.merge(yaml("linear"), MergeRecipes.models(3))
        #expect(merged.lineage.parents.map(\.source) == ["m0", "m1"])
        #expect(merged.notes.contains { $0.contains("nothing is taken of m2") })
    }
}
