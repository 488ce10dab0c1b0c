import CairnTrain
import Testing

@Suite struct TransformerGradientTests {
    static let configurations: [TransformerConfiguration] = {
        var list: [TransformerConfiguration] = []
        for positions in TransformerConfiguration.Positions.allCases {
            for norm in TransformerConfiguration.Norm.allCases {
                for feedForward in TransformerConfiguration.FeedForward.allCases {
                    for bits in 0..<8 {
                        var c = TransformerConfiguration(
                            vocabularySize: 11, context: 7, layers: 2, heads: 2, width: 12)
                        c.positions = positions
                        c.norm = norm
                        c.feedForward = feedForward
                        c.feedForwardMultiple = 2
                        c.tiedEmbeddings = bits & 1 == 1
                        c.biases = bits & 2 == 2
                        c.fusedQKV = bits & 4 == 4
                        list.append(c)
                    }
                }
            }
        }
        return list
    }()

    static func batch(vocabulary: Int, context: Int, sequences: Int) -> Batch {
        var random = PhiloxGenerator(key: 5)
        var batch = Batch()
        batch.inputs = (0..<sequences * context).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
        batch.targets = (0..<sequences * context).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
        batch.exampleCount = sequences
        return batch
    }

    @Test(arguments: configurations)
    func gradientsMatchDifferencesWithEveryOption(_ configuration: TransformerConfiguration) {
        expectGradientsMatchDifferences(
            of: Transformer(configuration),
            on: Self.batch(vocabulary: configuration.vocabularySize, context: configuration.context, sequences: 3),
            seed: 1)
    }

    /// More than one block of queries, and rows that are not a multiple of anything.
    @Test func gradientsMatchDifferencesInLongSequences() {
        var configuration = TransformerConfiguration(vocabularySize: 19, context: 133, layers: 1, heads: 3, width: 30)
        configuration.biases = true
        expectGradientsMatchDifferences(
            of: Transformer(configuration), on: Self.batch(vocabulary: 19, context: 133, sequences: 2), seed: 2)
    }
}
