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
