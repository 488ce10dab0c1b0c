import CairnBase

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
