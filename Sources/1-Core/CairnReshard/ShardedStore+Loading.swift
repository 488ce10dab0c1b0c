import CairnBase
public import CairnCheckpoint
public import CairnCommunication
public import CairnLayout

extension ShardedStore {
    /// Loads the newest checkpoint of which every rank can read its part, and tells a store without any from one where none is
    /// of use: the same case on every rank.
    ///
    /// It falls back past damaged checkpoints, which rank 0 puts in quarantine, and past those that are in it already, and says
    /// which. All ranks call it together. What one rank finds damaged no rank uses: after each attempt the ranks tell each
    /// other in one small exchange how it went.
    ///
    /// - Parameter tensors: The state to make, the same list on every rank; its meshes number the ranks as the group
    ///   does.
    /// - Throws: On every rank what makes a checkpoint unfit for `tensors`, as ``ReadPlan/init(reading:rank:tensors:)``; an error
    ///   that is not damage, such as a failing disk or a path that is a file.
    public func resume(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) throws -> Resumption<ShardedState> {
        let order = RecoveryOrder([CheckpointTier(store.name, store: store)])
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
    ) throws -> Loaded<ShardedState> {
        guard let part = try resume(tensors, options: options).loaded() else { throw store.noneUsable([]) }
        return part
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread. All ranks call it together.
    public func resume(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) async throws -> Resumption<ShardedState> {
        try await runOnThread { try self.resume(tensors, options: options) }
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread. All ranks call it together.
    public func loadLatest(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) async throws -> Loaded<ShardedState> {
        try await runOnThread { try self.loadLatest(tensors, options: options) }
    }
}

extension RecoveryOrder {
    /// Loads the newest state of which every rank can read its part, from the nearest tier that has it.
    ///
    /// All ranks call it together, with the same tiers. Rank 0 says what there is; each candidate is tried by all ranks at
    /// once, and after each attempt they tell each other in one small exchange how it went. What one rank finds damaged no
    /// rank uses, and rank 0 puts it in quarantine. Every rank must be able to reach the stores of the tiers: a tier in the
    /// memory of one machine is one of the ranks on that machine alone.
    ///
    /// - Parameter tensors: The state to make, the same list on every rank; its meshes number the ranks as the group
    ///   does.
    /// - Returns: The rank's part and what was tried, the same on every rank but for the times; `nil`, on every rank, when every
    ///   tier could be looked at and none has a checkpoint.
    /// - Throws: On every rank: ``CairnError/Code/nothingUsable``, with a ``RestartFailure`` as its cause, when there are
    ///   checkpoints and none can be used; when nothing is known but that tiers cannot be reached, the first tier's error; what
    ///   makes a checkpoint unfit for `tensors`, as ``ReadPlan/init(reading:rank:tensors:)``; what the communicator throws.
    public func load(
        _ tensors: [PlacedTensor], over communicator: any Communicator, options: ReadPlan.Options = ReadPlan.Options()
    ) throws -> Restart<ShardedState>? {
        let recovery = try GroupRecovery(self, communicator, isStrict: false).recover(tensors, options)
        guard let part = recovery.part, let last = recovery.decisions.last else {
            guard recovery.decisions.isEmpty else { throw recovery.failure }
            return nil
        }
        return Restart(state: part.state, manifest: part.manifest, tier: last.tier, decisions: recovery.decisions)
    }

    /// Loads the newest state of which every rank can read its part without blocking the calling task's thread. All ranks call
    /// it together.
    public func load(
        _ tensors: [PlacedTensor], over communicator: any Communicator, options: ReadPlan.Options = ReadPlan.Options()
    ) async throws -> Restart<ShardedState>? {
        try await runOnThread { try self.load(tensors, over: communicator, options: options) }
    }
}
