import CairnBase
import CairnCheckpoint

/// A snapshot that is being drained into one tier and copied to the others that are due.
final class PendingCopies: Sendable {
    let step: Int
    let saveID: SaveID
    /// The tier that it is drained into.
    let source: Int
    /// The tiers that get a copy afterwards.
    let targets: [Int]
    let isReplacing: Bool
    let began = ContinuousClock.now
    private let reports = Monitor<[TierReport]>([])

    init(step: Int, saveID: SaveID, source: Int, targets: [Int], isReplacing: Bool) {
        self.step = step
        self.saveID = saveID
        self.source = source
        self.targets = targets
        self.isReplacing = isReplacing
    }

    /// Adds what became of it on a tier.
    ///
    /// - Returns: Whether that was the last one.
    func add(_ report: TierReport) -> Bool {
        reports.change { reports in
            reports.append(report)
            return reports.count == targets.count + 1
        }
    }

    func wait(upTo duration: Duration?) -> [TierReport]? {
        reports.wait(until: duration.map { .now + $0 }) { $0.count == targets.count + 1 ? $0 : nil }
    }

    var known: [TierReport] { reports.read { $0 } }
}

/// A snapshot that was taken for one or more tiers.
public struct TieredSnapshot: Sendable {
    /// The snapshot, on its way to the tier that it is drained into.
    public let snapshot: Snapshot
    /// The name of that tier.
    public let tier: String
    let pending: PendingCopies

    /// The step that was saved.
    public var step: Int { pending.step }

    /// What became of it so far, one report for each tier.
    public var reports: [TierReport] { pending.known }

    /// Blocks until it has ended on every tier that was due, or until `duration` has passed.
    ///
    /// - Returns: One report for each tier, in the order in which it ended there; `nil` when it is still on its way.
    @discardableResult
    public func wait(upTo duration: Duration? = nil) -> [TierReport]? { pending.wait(upTo: duration) }
}
