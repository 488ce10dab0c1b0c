public import CairnBase
public import CairnCheckpoint

/// Checkpoints of a run by the metric that they were saved with.
public struct StoredSoup: Sendable, Hashable {
    /// Which of the stored metrics.
    public var metric: String
    /// Whether more of it is better.
    public var higherIsBetter: Bool
    /// The first step that counts.
    public var start: Int?
    /// The last step that counts.
    public var end: Int?

    public init(metric: String, higherIsBetter: Bool = false, start: Int? = nil, end: Int? = nil) {
        self.metric = metric
        self.higherIsBetter = higherIsBetter
        self.start = start
        self.end = end
    }

    /// The committed checkpoints that have the metric, the best first, the newest of equal ones first. Reads manifests alone.
    public func ranked(_ store: CheckpointStore) throws(CairnError) -> [(step: Int, value: Double)] {
        var found: [(step: Int, value: Double)] = []
        for summary in try store.list() {
            guard case .committed = summary.state, let value = summary.manifest?.metrics[metric], !value.isNaN,
                summary.step >= start ?? .min, summary.step <= end ?? .max
            else { continue }
            found.append((summary.step, value))
        }
        return found.sorted { one, other in
            if one.value == other.value { return one.step > other.step }
            return higherIsBetter ? one.value > other.value : one.value < other.value
        }
    }
}
