public import CairnBase
public import CairnCheckpoint

/// How checkpoints get from the tier that a snapshot is drained into to the others.
public struct TierOptions: Sendable {
    /// How many copies may wait for each tier beside the one under way. When there are more, the oldest is dropped and
    /// reported as ``TierOutcome/superseded(by:)``: a slow storage gets fewer checkpoints and never holds up training.
    public var maximumWaiting = 1
    /// How many threads copy to each tier.
    public var copyConcurrency = 1
    /// Told of everything that happens on a tier, on a thread of the background.
    public var observer: (any TierObserver)?

    public init() {}
}

/// Is told what became of checkpoints on each tier.
public protocol TierObserver: Sendable {
    /// Called once for each tier that a snapshot was due for, and whenever retention fails.
    func tierReported(_ report: TierReport)
}

/// What became of a snapshot on one tier.
public enum TierOutcome: Sendable {
    /// It was drained into the tier and is durable there.
    case drained
    /// It was copied there from the tier of this name, verified, and is durable.
    case copied(from: String)
    /// It was dropped before it was copied, because that of a later step was waiting too.
    case superseded(by: Int)
    /// It was not taken, or there was nothing to copy; the sentence says why.
    case skipped(String)
    /// It was cancelled.
    case cancelled
    /// It could not be saved or copied. The tier's older checkpoints are untouched, and other tiers continue.
    case failed(CairnError)
    /// Older checkpoints could not be deleted. None that should stay is lost.
    case retentionFailed(CairnError)

    /// Whether the tier has the checkpoint.
    public var isThere: Bool {
        switch self {
        case .drained, .copied: true
        default: false
        }
    }
}

extension TierOutcome: CustomStringConvertible {
    public var description: String {
        switch self {
        case .drained: "drained"
        case .copied(let tier): "copied from \(tier)"
        case .superseded(let step): "superseded by step \(step)"
        case .skipped(let reason): "skipped: \(reason)"
        case .cancelled: "cancelled"
        case .failed(let error): "failed: \(error)"
        case .retentionFailed(let error): "old checkpoints stay: \(error)"
        }
    }
}

/// One thing that happened on a tier.
public struct TierReport: Sendable {
    /// The tier's name.
    public var tier: String
    /// The step of the snapshot.
    public var step: Int
    /// The save, the same on every tier.
    public var saveID: SaveID
    /// What became of it.
    public var outcome: TierOutcome
    /// From the call that took the snapshot until now.
    public var seconds: Double
    /// The part of that spent copying to the tier.
    public var copySeconds = 0.0
    /// The bytes that were copied.
    public var copiedByteCount = 0
    /// What went wrong without harming the checkpoint, and what had to be put out of its way.
    public var warnings: [CairnError] = []
    /// How the snapshot was taken and drained, for the tier that it was drained into.
    public var snapshot: SnapshotReport?
}

extension TierReport: CustomStringConvertible {
    public var description: String { "\(tier)@\(step): \(outcome)" }
}
