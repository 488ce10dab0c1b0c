import Cairn
import CairnTrain

/// How well the weights of a run do on the validation data, and averages of them.
struct RunEvaluation {
    /// Every how many steps.
    let every: Int
    private var latest: LatestWeights?

    /// - Parameter latest: how many of the latest weights are averaged, and how many steps apart.
    init(every: Int, latest: (count: Int, spacing: Int)?) throws(CairnError) {
        self.every = every
        if let latest { self.latest = try LatestWeights(count: latest.count, spacing: latest.spacing) }
    }

    /// Keeps what later averages need, and evaluates when it is time.
    ///
    /// - Returns: Losses by the names under which checkpoints keep them; `nil` when it is not time.
    mutating func evaluate(_ trainer: Trainer, end: Int) throws -> [(name: String, loss: Double)]? {
        latest?.note(trainer.stepCount, trainer.parameters)
        guard trainer.stepCount % every == 0 || trainer.stepCount == end else { return nil }
        var losses = [(name: "validation", loss: trainer.evaluate().loss)]
        if let average = try trainer.averagedParameters() {
            losses.append(("validation_average", try trainer.evaluate(weights: average).loss))
        }
        if let mean = try latest?.mean() {
            losses.append(("validation_latest", try trainer.evaluate(weights: mean).loss))
        }
        return losses
    }
}
