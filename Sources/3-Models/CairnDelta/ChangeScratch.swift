import CairnBase
import CairnTensor

/// Memory for the positions and differences of a chunk, kept from one to the next.
///
/// `@unchecked Sendable`: whoever took it from the pool is the only one to use it until it is given back.
final class ChangeScratch: @unchecked Sendable {
    private static let pool = RecyclingPool<ChangeScratch>(limit: 2 * ThreadPool.processorCount)
    /// What is kept between two uses.
    private static let keptByteCount = 32 << 20

    private var positionMemory = AlignedBuffer(byteCount: 0)
    private var foldedMemory = AlignedBuffer(byteCount: 0)
    private var numberCount = 0

    /// Calls `body` with memory of undefined content that no other thread uses meanwhile.
    static func with<Result, Failure: Error>(
        numberCount: Int, _ width: NumberWidth, _ body: (ChangeScratch) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let scratch = pool.take() ?? ChangeScratch()
        scratch.reserve(numberCount, width)
        defer {
            if scratch.positionMemory.byteCount + scratch.foldedMemory.byteCount <= keptByteCount { pool.give(scratch) }
        }
        return try body(scratch)
    }

    private func reserve(_ count: Int, _ width: NumberWidth) {
        numberCount = count
        let positionBytes = count * MemoryLayout<UInt32>.size, foldedBytes = count * width.byteCount
        if positionMemory.byteCount < positionBytes { positionMemory = AlignedBuffer(byteCount: positionBytes) }
        if foldedMemory.byteCount < foldedBytes { foldedMemory = AlignedBuffer(byteCount: foldedBytes) }
    }

    /// A position for each number.
    var positions: UnsafeMutableBufferPointer<UInt32> {
        UnsafeMutableBufferPointer(
            start: positionMemory.base.bindMemory(to: UInt32.self, capacity: numberCount), count: numberCount)
    }

    /// Room for as many positions as are worth storing.
    var halfOfPositions: UnsafeMutableBufferPointer<UInt32> {
        UnsafeMutableBufferPointer(rebasing: positions[..<((numberCount + 1) / 2)])
    }

    /// Room for a difference of each number.
    var folded: UnsafeMutableRawPointer { foldedMemory.base }
}
