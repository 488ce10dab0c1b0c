public import CairnBase
public import CairnCheckpoint

/// What became of a snapshot.
public enum SnapshotOutcome: Sendable {
    /// It is a durable checkpoint of this save id.
    case committed(SaveID)
    /// It was not taken, or given up, because of back-pressure; the sentence says why.
    case skipped(String)
    /// It was cancelled.
    case cancelled
    /// It could not be saved. Older checkpoints are untouched, and later snapshots may succeed.
    case failed(CairnError)

    /// Whether there is a checkpoint.
    public var isCommitted: Bool {
        if case .committed = self { true } else { false }
    }
}

extension SnapshotOutcome: CustomStringConvertible {
    public var description: String {
        switch self {
        case .committed: "committed"
        case .skipped(let reason): "skipped: \(reason)"
        case .cancelled: "cancelled"
        case .failed(let error): "failed: \(error)"
        }
    }
}

/// A snapshot that has ended.
public struct SnapshotReport: Sendable {
    public var step: Int
    public var outcome: SnapshotOutcome
    /// How long each phase took, and what it cost.
    public var timeline: SnapshotTimeline
    /// What went wrong without harming the checkpoint: retention that could not delete, for example.
    public var warnings: [CairnError] = []
}
