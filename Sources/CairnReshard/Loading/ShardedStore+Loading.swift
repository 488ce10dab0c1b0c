import CairnBase
public import CairnCheckpoint
import CairnCommunication
public import CairnLayout

/// What a rank has loaded.
public struct LoadedPart: Sendable {
    /// The rank's part of the state.
    public var state: ShardedState
    /// The checkpoint that it is from, the same on every rank.
    public var manifest: Manifest
    /// Newer checkpoints that some rank could not read its part of.
    public var skipped: [CheckpointStore.Skipped]
}

extension ShardedStore {
    /// Loads the newest checkpoint of which every rank can read its part, and tells a store without any from one where none is
    /// of use: the same case on every rank.
    ///
    /// It falls back past damaged checkpoints, and past those in quarantine, and says which. All ranks call it together. What
    /// one rank finds damaged no rank uses: after each attempt the ranks tell each other in one small exchange how it went.
    ///
    /// - Parameter tensors: The state to make, the same list on every rank; its meshes number the ranks as the group
    ///   does.
    /// - Throws: On every rank what makes a checkpoint unfit for `tensors`, as ``ReadPlan/init(reading:rank:tensors:)``; an error
    ///   that is not damage, such as a failing disk or a path that is a file.
    public func resume(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) throws -> Resumption<LoadedPart> {
        var order = RecoveryOrder([RestartTier(name: store.name, store: store)])
        order.isQuarantining = false
        let recovery = try GroupRecovery(order, communicator, isStrict: true).recover(tensors, options)
        let skipped = recovery.decisions.compactMap { decision -> CheckpointStore.Skipped? in
            guard let step = decision.step, let error = decision.error else { return nil }
            return CheckpointStore.Skipped(step: step, error: error)
        }
        guard var part = recovery.part else {
            return skipped.isEmpty ? .nothingYet : .nothingUsable(store.noneUsable(skipped), skipped: skipped)
        }
        part.skipped = skipped
        return .resumed(part)
    }

    /// Loads the newest checkpoint of which every rank can read its part, as ``resume(_:options:)`` does.
    ///
    /// - Throws: On every rank: ``CairnError/Code/notFound`` when the store has no checkpoint,
    ///   ``CairnError/Code/nothingUsable`` when it has some and none can be used; as ``resume(_:options:)``.
    public func loadLatest(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) throws -> LoadedPart {
        guard let part = try resume(tensors, options: options).loaded() else { throw store.noneUsable([]) }
        return part
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread. All ranks call it together.
    public func resume(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) async throws -> Resumption<LoadedPart> {
        try await runOnThread { try self.resume(tensors, options: options) }
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread. All ranks call it together.
    public func loadLatest(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) async throws -> LoadedPart {
        try await runOnThread { try self.loadLatest(tensors, options: options) }
    }
}
