/// What Swift offers of spans under names that may change: nothing else uses them, so that only this file changes with them.

extension MutableRawSpan {
    /// A part of the bytes, to be written.
    @_lifetime(&self)
    @inlinable package mutating func part(_ range: Range<Int>) -> MutableRawSpan { _mutatingExtracting(range) }

    /// Memory that is `owner`'s alone to write.
    @_lifetime(&owner)
    @inlinable package init<Owner: ~Copyable>(
        _ start: UnsafeMutableRawPointer, byteCount: Int, mutating owner: inout Owner
    ) {
        self = _overrideLifetime(MutableRawSpan(_unsafeStart: start, byteCount: byteCount), mutating: &owner)
    }
}

extension RawSpan {
    /// Memory that `owner` keeps alive.
    @_lifetime(borrow owner)
    @inlinable package init<Owner: ~Copyable>(_ start: UnsafeRawPointer, byteCount: Int, borrowing owner: borrowing Owner) {
        self = _overrideLifetime(RawSpan(_unsafeStart: start, byteCount: byteCount), borrowing: owner)
    }
}

extension Span where Element: BitwiseCopyable {
    /// Elements that `owner` keeps alive.
    @_lifetime(borrow owner)
    @inlinable package init<Owner: ~Copyable>(_ start: UnsafePointer<Element>, count: Int, borrowing owner: borrowing Owner) {
        self = _overrideLifetime(Span(_unsafeStart: start, count: count), borrowing: owner)
    }
}
