import CairnBase
import CairnTensor
import CairnTrain
import Testing

@Suite struct LayerOutputTests {
    /// More examples than a worker has room for at once, beside the layers written out.
    @Test func layersPutOutWhatTheirWeightsSay() throws {
        let trainer = try TrainingCase(model: .perceptron).makeTrainer()
        try trainer.train(steps: 5)
        let digits = try DigitsDataset(csv: Fixture.bytes("digits.csv"))
        let outputs = try trainer.layerOutputs(.validation, limit: 50)
        #expect(outputs.map(\.shape) == [[50, 16], [50, 12], [50, 8], [50, 10]])
        let weights = Dictionary(uniqueKeysWithValues: trainer.parameters.map { ($0.name, $0.tensor) })
        var batch = Batch()
        for index in 0..<50 { digits.append(index, of: .validation, to: &batch) }
        var rows = (0..<50).map { Array(batch.features[$0 * 64..<($0 + 1) * 64]) }
        var correct = 0
        for layer in 0..<4 {
            let weight = try #require(weights["model.layers.\(layer).weight"]).elements(as: Float.self)
            let bias = try #require(weights["model.layers.\(layer).bias"]).elements(as: Float.self)
            rows = rows.map { row in
                bias.indices.map { unit in
                    let sum = row.indices.reduce(bias[unit]) { $0 + weight[unit * row.count + $1] * row[$1] }
                    return layer < 3 ? max(0, sum) : sum
                }
            }
            let found = try outputs[layer].elements(as: Float.self)
            for (one, other) in zip(found, rows.joined()) { #expect(abs(one - other) < 1e-4) }
        }
        for (row, target) in zip(rows, batch.targets) {
            if row.indices.max(by: { row[$0] < row[$1] }) == Int(target) { correct += 1 }
        }
        #expect(trainer.evaluate(limit: 50).accuracy == Double(correct) / 50)
    }

    @Test func aTransformerHasNoneToTell() throws {
        let trainer = try TrainingCase(model: .transformer).makeTrainer()
        let error = try #require(throws: CairnError.self) { try trainer.layerOutputs() }
        #expect(error.code == .unsupported)
    }
}
