/// One file or directory of a ``SimulatedDisk``: as processes see it, as the device has it, and the changes between.
struct SimulatedInode: Sendable {
    /// A change of a file that is not on the device yet.
    enum DataChange: Sendable {
        case write(offset: Int, bytes: [UInt8])
        case resize(Int)
    }

    /// A change of names in a directory that is not on the device yet. All of it happens, or none.
    struct NameChange: Sendable {
        var assignments: [(name: String, inode: Int?)]
    }

    /// A change with its place in the order of all changes of the disk.
    struct Pending<Change: Sendable>: Sendable {
        var sequence: Int
        var change: Change
    }

    let isDirectory: Bool
    /// How many names and how many open descriptors keep it in use.
    var links = 0
    var descriptors = 0
    var modified: Int64 = 0

    /// A file's bytes as processes see them.
    var bytes: [UInt8] = []
    /// A file's bytes on the device.
    var durableBytes: [UInt8] = []
    var pendingData: [Pending<DataChange>] = []
    /// Whether a failed `fsync` dropped writes: then `bytes` is not what the next `fsync` puts on the device.
    var hasLostWrites = false

    /// A directory's names as processes see them.
    var entries: [String: Int] = [:]
    /// A directory's names on the device.
    var durableEntries: [String: Int] = [:]
    var pendingNames: [Pending<NameChange>] = []

    init(isDirectory: Bool) { self.isDirectory = isDirectory }

    /// Whether no process can reach it any more.
    var isReleased: Bool { links == 0 && descriptors == 0 }

    /// Makes everything durable.
    mutating func synchronize() {
        if isDirectory {
            durableEntries = entries
            pendingNames = []
            return
        }
        if hasLostWrites {
            for pending in pendingData { SimulatedInode.apply(pending.change, to: &durableBytes) }
        } else {
            durableBytes = bytes
        }
        pendingData = []
    }

    /// What a failed `fsync` does: the writes are gone from the queue, the new size is not. A directory's changes stay,
    /// since a journal either keeps them or refuses everything from then on.
    mutating func failToSynchronize() {
        guard !isDirectory else { return }
        pendingData.removeAll { pending in
            if case .write = pending.change { return true }
            return false
        }
        hasLostWrites = true
    }

    /// Applies a change to bytes of a file, which grow as needed.
    static func apply(_ change: DataChange, to bytes: inout [UInt8]) {
        switch change {
        case .write(let offset, let written):
            copy(written[...], to: offset, of: &bytes)
        case .resize(let byteCount):
            grow(&bytes, to: byteCount)
            bytes.removeLast(bytes.count - byteCount)
        }
    }

    static func copy(_ written: ArraySlice<UInt8>, to offset: Int, of bytes: inout [UInt8]) {
        grow(&bytes, to: offset + written.count)
        bytes.withUnsafeMutableBytes { target in
            written.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + source.count]).copyMemory(from: source)
            }
        }
    }

    static func grow(_ bytes: inout [UInt8], to byteCount: Int) {
        if bytes.count < byteCount { bytes.append(contentsOf: repeatElement(0, count: byteCount - bytes.count)) }
    }
}
