import CairnBase
public import CairnCheckpoint
import CairnStorage

extension CheckpointTier {
    /// The same tier, whose damaged checkpoints a ``RecoveryOrder`` tries again as the parity beside them gives them, before it
    /// goes on to the next tier and to older checkpoints.
    ///
    /// ```swift
    /// let disk = CheckpointTier("disk", store: store).repairedByParity()
    /// if let restart = try RecoveryOrder([memory, disk]).load() { print(restart.decisions) }
    /// ```
    ///
    /// - Parameter writingBack: Mends the store too, once the state is loaded: each file that is lost or damaged is written anew
    ///   beside the old one and takes its place when it is durable. Of a job, rank 0 does that while the others wait.
    public func repairedByParity(writingBack: Bool = false) -> CheckpointTier {
        var tier = self
        tier.repair = ParityRepair(writesBack: writingBack)
        return tier
    }
}

/// Brings checkpoints back by the parity in their folders.
struct ParityRepair: CheckpointRepair {
    let name = "parity"
    let writesBack: Bool

    func steps(in store: CheckpointStore) throws(CairnError) -> [Int] {
        let keys = try store.storage.list("step-").map(\.key)
        return Set(keys.filter(Protection.isParity).compactMap(StepName.step(ofKey:))).sorted()
    }

    func repaired(
        _ store: CheckpointStore, onRepair: @escaping @Sendable (_ location: String) -> Void
    ) -> CheckpointStore {
        CheckpointStore(storage: RepairedStorage(store.storage, onRepair: onRepair), name: store.name)
    }

    func mend(_ store: CheckpointStore, step: Int) throws { try store.repair(step: step) }
}
