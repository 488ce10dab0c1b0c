/// How far the losses of a run are from those of a reference, step by step.
struct LossDeviation {
    /// The largest difference that rounding alone explains between runs whose ranks add in another order, in nats.
    ///
    /// A hundred times what was measured, a thousandth of what a resume without the optimizer's state is off by: see
    /// `Docs/Training.md`.
    static let tolerance = 1e-5

    /// The absolute differences, for the steps that both have.
    var differences: [(step: Int, loss: Double)] = []
    /// Whether a step of the run is missing in the reference, or a loss is not a number.
    var isIncomplete = false

    init(of run: [(step: Int, loss: Double)], from reference: [(step: Int, loss: Double)]) {
        let expected = Dictionary(reference.map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        for point in run {
            guard let loss = expected[point.step], point.loss.isFinite, loss.isFinite else {
                isIncomplete = true
                continue
            }
            differences.append((point.step, abs(point.loss - loss)))
        }
        if run.isEmpty { isIncomplete = true }
    }

    /// The largest difference and its step.
    var largest: (step: Int, loss: Double)? { differences.max { $0.loss < $1.loss } }

    func isWithin(_ tolerance: Double) -> Bool { !isIncomplete && differences.allSatisfy { $0.loss <= tolerance } }
}
