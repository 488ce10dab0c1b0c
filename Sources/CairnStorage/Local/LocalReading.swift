/// How ``LocalStorage`` reads objects.
public enum LocalReading: Sendable, Hashable {
    /// Through the page cache: what is read again, by whatever process, comes from memory.
    case buffered
    /// Past the page cache, where the file system can do that, else through it. What is in memory is read from the device
    /// all the same, and reading leaves nothing there.
    case direct
    /// Large reads of large objects that are not in the page cache go past it, the others through it. "The path to the
    /// disk" in Docs/Storage.md says why.
    case automatic

    /// Reads and objects below these sizes gain nothing.
    private static let leastRead = 256 << 10
    private static let leastObject = 16 << 20

    /// Whether a read of so many bytes may go past the page cache.
    func mayBeDirect(_ readByteCount: Int, of byteCount: Int) -> Bool {
        switch self {
        case .buffered: false
        case .direct: readByteCount > 0
        case .automatic: readByteCount >= Self.leastRead && byteCount >= Self.leastObject
        }
    }
}
