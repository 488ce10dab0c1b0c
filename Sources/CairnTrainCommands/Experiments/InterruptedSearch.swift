import Cairn
import CairnMerge

/// A search, and the same one interrupted in the middle: stored, loaded, and gone on with.
struct InterruptedSearch<Strategy: SearchStrategy> {
    /// The one that was not interrupted.
    let search: MergeSearch<Strategy>
    /// Whether the other has come to the same in every bit: candidates, values, and what it would do next.
    let isIdentical: Bool

    init(
        _ search: MergeSearch<Strategy>, evaluations: Int, on split: SearchSplit, in store: CheckpointStore
    ) throws {
        func advance(_ search: inout MergeSearch<Strategy>, to count: Int) throws {
            while search.trials.count < count { try search.advance(on: split) }
        }
        var whole = search
        try advance(&whole, to: evaluations / 2)
        var state = TrainingState()
        state.set(whole.value, for: "search")
        let step = whole.trials.count
        try store.save(state, step: step)
        try advance(&whole, to: evaluations)
        var resumed = try MergeSearch<Strategy>(store.load(step: step).value("search"), over: search.space)
        try advance(&resumed, to: evaluations)
        self.search = whole
        isIdentical = resumed.value == whole.value
    }

    /// The best trial of the first so many, by the weighted sum of its objectives.
    func best(of count: Int) -> (trial: MergeSearch<Strategy>.Trial, value: Double)? {
        search.trials.prefix(count).map { trial in
            (trial, zip(search.weights, trial.values).reduce(0) { $0 + $1.0 * $1.1 })
        }.min { $0.1 < $1.1 }
    }
}
