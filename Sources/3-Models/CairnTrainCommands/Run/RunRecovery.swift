import Cairn
import CairnBase
import CairnCheckpoint
import CairnProtect

extension RunPlan {
    /// Where a run looks for what it continues from: its keeper, then the store as it is, then as parity gives it, of every step
    /// from the newest on.
    func recovery(of source: CheckpointStore, _ kept: CheckpointStore?) -> RecoveryOrder {
        var tiers = [CheckpointTier(source.name, store: source).repairedByParity(writingBack: writesBack)]
        if case .newest = start, let kept { tiers.insert(CheckpointTier("keeper", store: kept), at: 0) }
        return RecoveryOrder(tiers)
    }

    /// Says what was tried, what is continued from, and what of it was rebuilt.
    func noteRestart(_ decisions: [RestartDecision], step: Int, tier: String) {
        for decision in decisions where decision.outcome != .loaded { note("passed over \(decision)") }
        if let repair = decisions.last?.repair, !repair.files.isEmpty {
            let files = repair.files.joined(separator: ", ")
            if repair.isWrittenBack {
                note("repaired by \(repair.method), and written: \(files)")
            } else {
                note("repaired in memory by \(repair.method): \(files); run cairn repair \(tier)@\(step)")
            }
            if let error = repair.writeBackError { note("  it could not be written: \(error)") }
        }
        let milliseconds = decimal((decisions.last?.seconds ?? 0) * 1000)
        note(
            "resumed from step \(step) of \(tier) in \(milliseconds) ms" + (withoutOptimizer ? ", without the optimizer" : ""))
    }
}

/// Protects the checkpoints of a run by parity, one after the other, while it trains on.
final class RunProtection: Sendable {
    private let store: CheckpointStore
    private let parity: Int
    private let threads = ThreadPool(threadCount: 1)
    private let openCount = Monitor(0)
    private let note: @Sendable (String) -> Void

    /// - Returns: `nil` for a run whose checkpoints are not protected.
    init?(_ plan: RunPlan) {
        guard plan.parity > 0 else { return nil }
        (store, parity, note) = (plan.store, plan.parity, plan.note)
    }

    /// Protects a checkpoint that is committed.
    func protect(step: Int) {
        openCount.change { $0 += 1 }
        threads.submit { [self] in
            var options = ProtectionOptions(parityCount: parity, replacing: true)
            // It was written just now.
            options.verifying = false
            do {
                try store.protect(step: step, options: options)
            } catch {
                // Old checkpoints may be deleted meanwhile.
                if (error as? CairnError)?.code != .notFound { note("step \(step) is not protected: \(error)") }
            }
            openCount.change { $0 -= 1 }
        }
    }

    /// Waits until all are.
    func finish() { openCount.wait { $0 == 0 ? () : nil } }
}
