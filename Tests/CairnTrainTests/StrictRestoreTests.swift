import CairnBase
import CairnTensor
import CairnTrain
import Testing

@Suite struct StrictRestoreTests {
    /// Restores a damaged state; the error must name what is wrong, and the trainer must be as it was.
    private func expectRefusal(
        _ code: CairnError.Code, naming name: String, sourceLocation: SourceLocation = #_sourceLocation,
        _ damage: (inout [String: Tensor], inout [String: Value]) throws -> Void
    ) throws {
        let trainer = try TrainingCase(model: .tied).makeTrainer()
        let other = try TrainingCase(model: .tied).makeTrainer()
        try other.train(steps: 2)
        let before = trainer.state()
        let state = other.state()
        var tensors = state.tensorsByName
        var values = state.values
        try damage(&tensors, &values)
        let error = #expect(throws: CairnError.self, sourceLocation: sourceLocation) {
            try trainer.restore(tensors: tensors, values: values)
        }
        #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
        #expect(error?.description.contains(name) == true, "\(String(describing: error))", sourceLocation: sourceLocation)
        ResumeTests.expectEqual(trainer.state(), before, "unchanged")
    }

    @Test(arguments: ["epoch", "example_count"]) func aCounterThatNoRunReachesIsNamed(field: String) throws {
        try expectRefusal(.mismatch, naming: "loader.\(field)") { _, values in
            guard case .dictionary(var loader) = values["loader"] else { return }
            loader[field] = .integer(.max)
            values["loader"] = .dictionary(loader)
        }
    }

    @Test func aMissingParameterIsNamed() throws {
        try expectRefusal(.incomplete, naming: "model.layers.0.mlp.up.weight") { tensors, _ in
            tensors["model.layers.0.mlp.up.weight"] = nil
        }
    }

    @Test func aMissingOptimizerSlotIsNamed() throws {
        try expectRefusal(.incomplete, naming: "optimizer.exp_avg_sq.model.embedding.weight") { tensors, _ in
            tensors["optimizer.exp_avg_sq.model.embedding.weight"] = nil
        }
    }

    @Test func aTensorThatNothingReadsIsNamed() throws {
        try expectRefusal(.mismatch, naming: "model.extra") { tensors, _ in
            tensors["model.extra"] = Tensor([Float(1)])
        }
    }

    @Test func anotherShapeIsNamed() throws {
        try expectRefusal(.mismatch, naming: "model.final_norm.weight") { tensors, _ in
            tensors["model.final_norm.weight"] = Tensor([Float](repeating: 1, count: 15))
        }
    }

    @Test func anotherTypeIsNamed() throws {
        try expectRefusal(.mismatch, naming: "model.final_norm.weight") { tensors, _ in
            tensors["model.final_norm.weight"] = try tensors["model.final_norm.weight"]?.converted(to: .f16)
        }
    }

    @Test func aTiedTensorThatDiffersIsNamed() throws {
        try expectRefusal(.mismatch, naming: "model.head.weight") { tensors, _ in
            var tied = try #require(tensors["model.embedding.weight"])
            tied.withMutableElements(as: Float.self) { $0[0] += 1 }
            tensors["model.head.weight"] = tied
        }
    }

    @Test(arguments: [
        "trainer", "model", "data", "loader", "random", "schedule", "optimizer", "tokenizer",
    ])
    func aMissingValueIsNamed(_ name: String) throws {
        try expectRefusal(.incomplete, naming: name) { _, values in values[name] = nil }
    }

    @Test(arguments: [
        ("trainer", "step"), ("trainer", "batch_size"), ("model", "width"), ("data", "checksum"),
        ("loader", "position"), ("random", "key"), ("schedule", "peak"), ("optimizer", "beta1"),
        ("tokenizer", "vocabulary"),
    ])
    func aFieldThatIsMissingTooMuchOrOfAnotherTypeIsNamed(name: String, field: String) throws {
        for replacement in [nil, Value.string("no")] {
            try expectRefusal(
                replacement == nil ? .incomplete : .mismatch, naming: "\(name).\(field)"
            ) { _, values in
                guard case .dictionary(var fields)? = values[name] else { return }
                fields[field] = replacement
                values[name] = .dictionary(fields)
            }
        }
        try expectRefusal(.mismatch, naming: "\(name).surplus") { _, values in
            guard case .dictionary(var fields)? = values[name] else { return }
            fields["surplus"] = 1
            values[name] = .dictionary(fields)
        }
    }

    @Test func aPositionBeyondTheEpochIsRefused() throws {
        try expectRefusal(.mismatch, naming: "loader.position") { _, values in
            guard case .dictionary(var fields)? = values["loader"] else { return }
            fields["position"] = .integer(1 << 40)
            values["loader"] = .dictionary(fields)
        }
    }

    @Test func stateOfAnotherOptimizerIsRefused() throws {
        let trainer = try TrainingCase(model: .tied).makeTrainer()
        let state = try TrainingCase(model: .tied, optimizer: .muon()).makeTrainer().state()
        #expect(throws: CairnError.self) {
            try trainer.restore(tensors: state.tensorsByName, values: state.values)
        }
        try trainer.restore(tensors: state.tensorsByName, values: state.values, withoutOptimizer: true)
    }
}
