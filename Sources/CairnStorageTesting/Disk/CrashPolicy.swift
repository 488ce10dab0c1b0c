/// Which of the changes that were not synchronized survive a power failure.
///
/// The model follows Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014: whatever no `fsync` ordered
/// may be kept, lost or reordered. A file's `fsync` keeps its bytes and size but not its name; a directory's keeps its
/// names.
package enum CrashPolicy: Sendable, Hashable, CaseIterable {
    /// None: only what was synchronized.
    case losePending
    /// All: as if everything had been written just in time.
    case keepPending
    /// All up to some moment and none after it.
    case prefix
    /// Any subset of writes, size changes and directory changes, each as a whole.
    case subset
    /// As ``subset``, but writes fall apart into sectors of 512 bytes; what is missing in a file that kept its size
    /// reads as zeros, as random bytes or as the bytes of another file.
    case torn
}
