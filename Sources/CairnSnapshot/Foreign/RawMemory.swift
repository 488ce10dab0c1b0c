import CairnBase

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
