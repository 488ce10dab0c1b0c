import CairnBase
import Synchronization

/// Recycles page-aligned memory.
///
/// Touching fresh memory costs many times a copy of warm memory, so buffers that tensors give back are kept for the next
/// tensors of a similar size, up to a limit.
public final class BufferPool: Sendable {
    /// What the pool has done so far.
    package struct Statistics: Sendable, Hashable {
        /// Bytes kept for reuse now.
        package var idleByteCount = 0
        /// Bytes handed out and not given back.
        package var liveByteCount = 0
        /// The most bytes that were ever live at once.
        package var highWaterByteCount = 0
        /// Requests served from kept buffers.
        package var reuseCount = 0
        /// Requests that took fresh memory.
        package var allocationCount = 0
    }

    private struct State {
        var idle: [Int: [AlignedMemory]] = [:]
        var statistics = Statistics()
    }

    private let state = Mutex(State())
    /// The most bytes that are kept for reuse; what comes back beyond is freed.
    public let idleLimit: Int
    /// What updates of shared tensors into this pool's memory may take.
    package let copies = CopyBudget()

    /// - Parameter idleLimit: how many bytes may be kept for reuse.
    public init(idleLimit: Int) { self.idleLimit = max(0, idleLimit) }

    /// The counters as of now.
    package var statistics: Statistics { state.withLock { $0.statistics } }

    /// What updates of tensors that snapshots still hold have cost so far.
    package var copyStatistics: CopyStatistics { copies.statistics }

    /// Takes fresh memory for buffers of these sizes, in bytes, touches it and keeps it, so that later requests find warm
    /// memory. Stops at ``idleLimit``.
    public func reserve(byteCounts: [Int]) {
        var memory: [AlignedMemory] = []
        var total = 0
        let room = idleLimit - statistics.idleByteCount
        for byteCount in byteCounts {
            let size = Self.sizeClass(byteCount)
            guard size <= room - total else { continue }
            total += size
            let block = AlignedMemory(byteCount: size)
            block.base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
            memory.append(block)
        }
        state.withLock { state in
            for block in memory {
                state.idle[block.byteCount, default: []].append(block)
                state.statistics.idleByteCount += block.byteCount
            }
        }
    }

    /// Frees what is kept for reuse.
    public func removeAll() {
        let freed = state.withLock { state in
            defer { state.idle.removeAll() }
            state.statistics.idleByteCount = 0
            return state.idle
        }
        for memory in freed.values.joined() { memory.deallocate() }
    }

    deinit { removeAll() }

    /// Eight sizes for each power of two: at most an eighth is wasted, and similar tensors share buffers.
    static func sizeClass(_ byteCount: Int) -> Int {
        let minimum = AlignedMemory.pageSize
        guard byteCount > minimum else { return minimum }
        let power = Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount
        let step = max(minimum, 1 << max(0, power - 3))
        return byteCount.roundedUp(toMultipleOf: step) ?? byteCount
    }

    func take(byteCount: Int) -> AlignedMemory {
        let size = Self.sizeClass(byteCount)
        let recycled: AlignedMemory? = state.withLock { state in
            state.statistics.liveByteCount += size
            state.statistics.highWaterByteCount = max(
                state.statistics.highWaterByteCount, state.statistics.liveByteCount)
            if let memory = state.idle[size]?.popLast() {
                state.statistics.idleByteCount -= size
                state.statistics.reuseCount += 1
                return memory
            }
            state.statistics.allocationCount += 1
            return nil
        }
        return recycled ?? AlignedMemory(byteCount: size)
    }

    func give(_ memory: AlignedMemory) {
        let kept = state.withLock { state in
            state.statistics.liveByteCount -= memory.byteCount
            guard state.statistics.idleByteCount + memory.byteCount <= idleLimit else { return false }
            state.idle[memory.byteCount, default: []].append(memory)
            state.statistics.idleByteCount += memory.byteCount
            return true
        }
        if !kept { memory.deallocate() }
    }
}
