public import CairnBase
public import CairnTensor

/// A tensor in memory that is not copy-on-write, made fit for snapshots.
///
/// A snapshot copies nothing when it is taken. Afterwards the bytes are read chunk by chunk: by the drain, or, if they are to
/// be overwritten first, by the code that overwrites them. So that this is not forgotten, code that writes needs a
/// ``MutationLease``: taking one saves what snapshots still need, and while it is held no snapshot of the array can be taken.
///
/// ```swift
/// let array = try ForeignArray(.f32, [rows, columns], memory: memory, pool: pool)
/// let lease = try array.lease()        // saves what a snapshot in flight still needs
/// memory.mutate(lease) { bytes in … }
/// lease.end()
/// ```
public final class ForeignArray: Sendable {
    private struct State {
        var holds: [ForeignHold] = []
        var leaseCount = 0
    }

    package let scalarType: ScalarType
    package let shape: Shape
    package let byteCount: Int
    /// What holds the elements, row-major and little-endian.
    public let memory: any ForeignMemory
    /// The bytes that are saved at once.
    package let chunkByteCount: Int
    /// Where saved bytes are kept until they are drained.
    let pool: BufferPool
    private let state = Monitor(State())

    /// - Parameters:
    ///   - memory: Row-major, little-endian elements.
    ///   - chunkByteCount: The bytes that are saved at once before they are overwritten.
    ///   - pool: Where they are kept; its budget bounds them.
    /// - Throws: ``CairnError/Code/mismatch`` when the memory has another size than type and shape need,
    ///   ``CairnError/Code/invalidArgument`` for chunks without bytes.
    public init(
        _ scalarType: ScalarType, _ shape: Shape, memory: any ForeignMemory, chunkByteCount: Int = 4 << 20,
        pool: BufferPool
    ) throws(CairnError) {
        byteCount = try Tensor.byteCount(scalarType, shape)
        guard memory.byteCount == byteCount else {
            throw CairnError(
                .mismatch, "the memory does not fit the tensor",
                .init(expected: "\(byteCount) bytes for \(scalarType)\(shape)", found: "\(memory.byteCount) bytes"))
        }
        guard chunkByteCount > 0 else { throw CairnError(.invalidArgument, "a chunk has at least one byte") }
        self.scalarType = scalarType
        self.shape = shape
        self.memory = memory
        self.chunkByteCount = chunkByteCount
        self.pool = pool
    }

    /// Permission to write the bytes of `range`, all by default. Saves what snapshots in flight still need of them, or waits
    /// until they are drained when memory is short.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a range that is not inside; what reading the memory throws.
    public func lease(_ range: Range<Int>? = nil) throws -> MutationLease {
        let range = range ?? 0..<byteCount
        guard range.lowerBound >= 0, range.upperBound <= byteCount else {
            throw CairnError(
                .invalidArgument, "a lease lies outside its array", .init(expected: "inside 0..<\(byteCount)", found: "\(range)"))
        }
        let holds = state.change { state in
            state.leaseCount += 1
            return state.holds
        }
        do {
            for hold in holds { try hold.save(range) }
        } catch {
            endLease()
            throw error
        }
        return MutationLease(self, range)
    }

    /// Holds the bytes as they are now.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` while a lease to write them is held.
    func hold() throws(CairnError) -> ForeignHold {
        let hold = ForeignHold(self)
        let isBusy = state.change { state in
            guard state.leaseCount == 0 else { return true }
            state.holds.append(hold)
            return false
        }
        guard !isBusy else {
            throw CairnError(
                .invalidArgument, "an array is being written, so no snapshot of it can be taken",
                .init(advice: "end the lease first"))
        }
        return hold
    }

    func end(_ hold: ForeignHold) { state.change { $0.holds.removeAll { $0 === hold } } }

    fileprivate func endLease() { state.change { $0.leaseCount -= 1 } }
}

/// Permission to write some bytes of a ``ForeignArray``: what snapshots need of them is safe. It ends with ``end()`` or when
/// it goes out of scope, and cannot be copied, so it cannot be kept by mistake.
public struct MutationLease: ~Copyable, Sendable {
    /// The array that may be written.
    package let array: ForeignArray
    /// The bytes of it that may be written.
    package let byteRange: Range<Int>

    fileprivate init(_ array: ForeignArray, _ range: Range<Int>) {
        self.array = array
        byteRange = range
    }

    /// Gives the permission back.
    public consuming func end() {}

    deinit { array.endLease() }
}

/// Memory that is not copy-on-write: a raw buffer, an array of another framework, memory of a device.
public protocol ForeignMemory: AnyObject, Sendable {
    /// How many bytes it has.
    var byteCount: Int { get }

    /// Copies the bytes of `range` as they are now.
    ///
    /// Called from any thread, and for several ranges at once, but never while a ``MutationLease`` of the range is held. For
    /// memory of a device this is where the copy to the host waits.
    func read(_ range: Range<Int>, into destination: inout MutableRawSpan) throws
}

/// A buffer of raw memory as ``ForeignMemory``: the worked example of how memory of others becomes fit for snapshots.
///
/// `@unchecked Sendable`: reads and writes of a range never overlap, because a writer holds a ``MutationLease``, which
/// waits for readers and keeps later ones away.
public final class RawMemory: ForeignMemory, @unchecked Sendable {
    private let bytes: UnsafeMutableRawBufferPointer
    private let owner: (any AnyObject & Sendable)?

    /// Memory that stays where it is as long as `owner` lives, and that is not written without a lease.
    public init(_ bytes: UnsafeMutableRawBufferPointer, keptAliveBy owner: (any AnyObject & Sendable)?) {
        self.bytes = bytes
        self.owner = owner
    }

    public var byteCount: Int { bytes.count }

    public func read(_ range: Range<Int>, into destination: inout MutableRawSpan) throws {
        guard range.lowerBound >= 0, range.upperBound <= bytes.count, destination.byteCount == range.count else {
            throw CairnError(.invalidArgument, "a read lies outside its memory", .init(found: "\(range)"))
        }
        destination.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[range])) }
    }

    /// Calls `body` with the bytes that a lease of this memory covers.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a lease of other memory; what `body` throws.
    public func mutate<Result>(
        _ lease: borrowing MutationLease, _ body: (inout MutableRawSpan) throws -> Result
    ) throws -> Result {
        guard lease.array.memory === self else {
            throw CairnError(.invalidArgument, "the lease is of other memory")
        }
        let range = lease.byteRange
        guard let base = bytes.baseAddress else {
            var empty = MutableRawSpan()
            return try body(&empty)
        }
        var span = MutableRawSpan(_unsafeStart: base + range.lowerBound, byteCount: range.count)
        return try body(&span)
    }
}
