/// How the bytes of new objects of a ``LocalStorage`` reach the device.
public enum LocalWriting: Sendable, Hashable {
    /// Through the page cache.
    case buffered
    /// Past the page cache, where the file system can do that, else through it. The objects are not in memory afterwards.
    case direct
    /// What is faster for the object, given its size. "The path to the disk" in Docs/Storage.md says what that is and why.
    case automatic

    /// From this size on it pays that many writes are under way at once.
    private static let directByteCount = 16 << 20

    /// - Parameter byteCount: The size of the object, if it is known beforehand.
    func isDirect(byteCount: Int?) -> Bool {
        switch self {
        case .buffered: false
        case .direct: true
        case .automatic: (byteCount ?? 0) >= Self.directByteCount
        }
    }
}
