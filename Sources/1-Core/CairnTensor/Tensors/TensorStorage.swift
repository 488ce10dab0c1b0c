import CairnBase
import Synchronization

/// The bytes behind one or several tensors, and who frees them.
///
/// `@unchecked Sendable`: bytes are written only through a `Tensor` whose reference is the only one, so no two threads
/// ever see a write in progress.
package final class TensorStorage: @unchecked Sendable {
    private enum Owner {
        case allocated(AlignedMemory)
        case pooled(AlignedMemory, BufferPool)
        /// Memory that lives as long as the object does, and that is not ours to write.
        case foreign(any AnyObject & Sendable)
    }

    private let owner: Owner
    /// The first byte. Writable only if ``isWritable``.
    package let base: UnsafeMutableRawPointer
    package let byteCount: Int
    /// How often a tensor has begun to write in place. Only a sole owner does, so nobody reads it meanwhile.
    package private(set) var writeCount = 0
    /// Where the bytes are charged that live on only because a snapshot holds them.
    private let charge = Mutex<CopyBudget?>(nil)

    /// Memory of undefined content, from `pool` if there is one.
    package init(byteCount: Int, pool: BufferPool?) {
        self.byteCount = byteCount
        if let pool {
            let memory = pool.take(byteCount: byteCount)
            owner = .pooled(memory, pool)
            base = memory.base
        } else {
            let memory = AlignedMemory(byteCount: byteCount)
            owner = .allocated(memory)
            base = memory.base
        }
    }

    /// Memory with another owner, kept alive by `foreignOwner` and never written.
    package init(readOnly base: UnsafeRawPointer, byteCount: Int, owner foreignOwner: any AnyObject & Sendable) {
        owner = .foreign(foreignOwner)
        self.base = UnsafeMutableRawPointer(mutating: base)
        self.byteCount = byteCount
    }

    /// Whether the bytes may be written in place by a sole owner.
    package var isWritable: Bool {
        if case .foreign = owner { false } else { true }
    }

    /// This memory, which its sole owner is about to write.
    func forWriting() -> TensorStorage {
        writeCount &+= 1
        return self
    }

    /// The pool that the memory goes back to.
    package var pool: BufferPool? {
        if case .pooled(_, let pool) = owner { pool } else { nil }
    }

    /// Gives `byteCount` bytes back to `budget` when this memory is freed; at once if it is charged already.
    func keepCharge(to budget: CopyBudget) {
        let isSecond = charge.withLock { charge in
            guard charge == nil else { return true }
            charge = budget
            return false
        }
        if isSecond { budget.release(byteCount) }
    }

    deinit {
        switch owner {
        case .allocated(let memory): memory.deallocate()
        case .pooled(let memory, let pool): pool.give(memory)
        case .foreign: break
        }
        // Only now, so that an update that waits for it finds the memory in the pool.
        charge.withLock { $0 }?.release(byteCount)
    }
}

/// Bounds the memory that updates of shared tensors take.
///
/// An update of a tensor that a snapshot still holds goes into another buffer; the old bytes then live on for the snapshot
/// alone. Those bytes are charged here until they are freed. When the limit is reached, the update waits for the snapshot
/// to release the tensor, or of others.
package final class CopyBudget: Sendable {
    private struct State {
        var statistics = CopyStatistics()
        var limit = Int.max
        var patience = Duration.zero
        var giveUp: (@Sendable () -> Void)?
        /// How many snapshots hold tensors that they will release.
        var drainCount = 0
    }

    private let monitor = Monitor(State())

    package init() {}

    /// What updates of shared tensors have cost so far.
    package var statistics: CopyStatistics { monitor.read(\.statistics) }

    /// Sets the limit.
    ///
    /// - Parameters:
    ///   - byteCount: The bytes that may be charged at once.
    ///   - patience: How long an update waits when they are used up.
    ///   - giveUp: What to do when that was in vain, on the waiting thread. Afterwards the update continues beyond the limit.
    package func setLimit(_ byteCount: Int, patience: Duration, giveUp: (@Sendable () -> Void)? = nil) {
        monitor.change { state in
            state.limit = byteCount
            state.patience = patience
            state.giveUp = giveUp
        }
    }

    /// Says that a snapshot holds tensors and will release them, so that waiting makes sense.
    package func beginDrain() { monitor.change { $0.drainCount += 1 } }

    /// Ends what ``beginDrain()`` began.
    package func endDrain() { monitor.change { $0.drainCount -= 1 } }

    /// Says that a snapshot has released a tensor.
    package func noteRelease() { monitor.change { _ in } }

    /// Decides how a shared tensor of `byteCount` bytes is updated, after waiting if need be.
    ///
    /// - Parameter isUnique: Whether the tensor is no longer shared.
    /// - Returns: Whether the bytes are charged and the update goes elsewhere; otherwise it goes in place.
    package func admit(_ byteCount: Int, isUnique: () -> Bool) -> Bool {
        let start = ContinuousClock.now
        let deadline = monitor.read { start + $0.patience }
        var hasWaited = false
        var decision = monitor.wait(until: deadline) { state -> Bool? in
            decide(&state, byteCount, isUnique, waitedFrom: hasWaited ? start : nil) { hasWaited = true }
        }
        if decision == nil {
            monitor.read(\.giveUp)?()
            decision = monitor.change { state in
                let isCharged = !isUnique()
                if isCharged { state.statistics.charge(byteCount) }
                state.statistics.noteWait(since: start)
                return isCharged
            }
        }
        return decision ?? true
    }

    private func decide(
        _ state: inout State, _ byteCount: Int, _ isUnique: () -> Bool, waitedFrom start: ContinuousClock.Instant?,
        mustWait: () -> Void
    ) -> Bool? {
        if isUnique() {
            if let start { state.statistics.noteWait(since: start) }
            return false
        }
        let fits = byteCount <= state.limit - state.statistics.heldByteCount
        guard fits || state.drainCount == 0 else {
            mustWait()
            return nil
        }
        state.statistics.charge(byteCount)
        if let start { state.statistics.noteWait(since: start) }
        return true
    }

    /// Gives charged bytes back: they are freed.
    package func release(_ byteCount: Int) { monitor.change { $0.statistics.heldByteCount -= byteCount } }
}

/// What updates of tensors that snapshots still hold have cost.
package struct CopyStatistics: Sendable, Hashable {
    /// How many updates went into another buffer.
    package var copyCount = 0
    /// The bytes of those updates.
    package var copiedByteCount = 0
    /// Old bytes that only snapshots hold now.
    package var heldByteCount = 0
    /// The most that were ever held at once.
    package var highWaterByteCount = 0
    /// How many updates waited for a snapshot to release a tensor.
    package var waitCount = 0
    /// How long they waited in all.
    package var waited = Duration.zero

    package init() {}

    mutating func charge(_ byteCount: Int) {
        copyCount += 1
        copiedByteCount += byteCount
        heldByteCount += byteCount
        highWaterByteCount = max(highWaterByteCount, heldByteCount)
    }

    mutating func noteWait(since start: ContinuousClock.Instant) {
        waitCount += 1
        waited += .now - start
    }
}
