import CairnBase
import CairnTensor
import CairnTrain
import Testing

/// What a model computes, told in a few numbers.
@Suite struct FingerprintTests {
    @Test func aRestoredModelHasTheFingerprintOfTheSavedOneAndAnotherModelHasNot() throws {
        let trainer = try TrainingCase(model: .experts).makeTrainer()
        try trainer.train(steps: 5)
        let stored = try Fingerprint(trainer.fingerprint().value)
        #expect(stored.losses.count == 8)
        let state = trainer.state()
        let resumed = try TrainingCase(model: .experts).makeTrainer()
        try resumed.restore(tensors: state.tensorsByName, values: state.values)
        #expect(resumed.fingerprint().difference(from: stored) == 0)
        // Two matrices of one shape exchanged: no checksum would tell.
        var tensors = Dictionary(uniqueKeysWithValues: resumed.parameters.map { ($0.name, $0.tensor) })
        let names = ["model.layers.0.mlp.up.weight", "model.layers.0.mlp.down.weight"]
        let old = try names.map { try #require(tensors[$0]) }
        tensors[names[0]] = try old[1].reshaped(old[0].shape)
        tensors[names[1]] = try old[0].reshaped(old[1].shape)
        try resumed.replaceParameters(tensors)
        #expect(resumed.fingerprint().difference(from: stored) > Fingerprint.tolerance)
    }

    @Test func aModelShardedOverRanksHasTheSameFingerprint() throws {
        let run = ParallelCase(mesh: "dp=2,ep=2", zero: true, experts: 4)
        let single = try run.makeTrainer().fingerprint()
        for rank in try run.run({ try $0.fingerprint() }) {
            #expect(rank.difference(from: single) < 1e-5)
        }
    }

    @Test func whatCannotBeComparedIsDifferent() throws {
        #expect(Fingerprint(losses: [1, 2]).difference(from: Fingerprint(losses: [1])) == .infinity)
        #expect(Fingerprint(losses: []).difference(from: Fingerprint(losses: [])) == .infinity)
        #expect(Fingerprint(losses: [.nan]).difference(from: Fingerprint(losses: [1])) == .infinity)
        for value: Value? in [
            nil, .dictionary(["kind": "example-losses"]), .dictionary(["kind": "x", "losses": .list([])]),
        ] {
            #expect(throws: CairnError.self) { try Fingerprint(value) }
        }
    }
}
