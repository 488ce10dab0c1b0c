import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// All that a ``SimulatedDisk`` holds, as a value: a copy costs the number of inodes, not their bytes.
struct SimulatedDiskState: Sendable {
    static let root = 0

    var inodes: [SimulatedInode?] = [SimulatedInode(isDirectory: true)]
    /// The inode of each open descriptor.
    var descriptors: [Int32: Int] = [:]
    var nextDescriptor: Int32 = 3
    /// The descriptors whose reads and writes pass by the page cache.
    var direct: Set<Int32> = []
    let directAccess: DirectAccessSupport
    /// How many reads and writes passed by the page cache.
    var directCallCount = 0
    var nextToken: UInt64 = 0
    /// The place of the next change in the order of all, which also serves as the clock.
    var sequence = 1
    var capacity: Int
    /// The bytes of all files that processes can reach.
    var used = 0
    private var freeInodes: [Int] = []
    private var inodesAfterSweep = 0

    init(capacity: Int, directAccess: DirectAccessSupport = .aligned) {
        self.capacity = capacity
        self.directAccess = directAccess
        inodes[Self.root]?.links = 1
    }

    subscript(inode index: Int) -> SimulatedInode {
        get { inodes[index] ?? SimulatedInode(isDirectory: false) }
        _modify {
            var inode = inodes[index] ?? SimulatedInode(isDirectory: false)
            // Taken out so that arrays are changed in place and not copied.
            inodes[index] = nil
            defer { inodes[index] = inode }
            yield &inode
        }
    }

    // MARK: Names

    /// The inode at `path`.
    func resolve(_ path: String, _ call: String) throws(SystemCallError) -> Int {
        var inode = Self.root
        for name in components(of: path) {
            guard self[inode: inode].isDirectory else { throw SystemCallError(ENOTDIR, call) }
            guard let next = self[inode: inode].entries[name] else { throw SystemCallError(ENOENT, call) }
            inode = next
        }
        return inode
    }

    /// The directory that holds `path`'s last component, and that component.
    func resolveParent(_ path: String, _ call: String) throws(SystemCallError) -> (directory: Int, name: String) {
        var names = components(of: path)
        guard let name = names.popLast() else { throw SystemCallError(EBUSY, call) }
        guard name.utf8.count <= 255 else { throw SystemCallError(ENAMETOOLONG, call) }
        let directory = try resolve(names.joined(separator: "/"), call)
        guard self[inode: directory].isDirectory else { throw SystemCallError(ENOTDIR, call) }
        return (directory, name)
    }

    mutating func make(directory isDirectory: Bool, at path: String, _ call: String) throws(SystemCallError) -> Int {
        let (parent, name) = try resolveParent(path, call)
        guard self[inode: parent].entries[name] == nil else { throw SystemCallError(EEXIST, call) }
        var inode = SimulatedInode(isDirectory: isDirectory)
        inode.links = 1
        inode.modified = Int64(sequence)
        let index: Int
        if let free = freeInodes.popLast() {
            index = free
            inodes[index] = inode
        } else {
            index = inodes.count
            inodes.append(inode)
        }
        change(parent, [(name, index)])
        return index
    }

    mutating func remove(_ path: String, directory isDirectory: Bool, _ call: String) throws(SystemCallError) {
        let (parent, name) = try resolveParent(path, call)
        guard let inode = self[inode: parent].entries[name] else { throw SystemCallError(ENOENT, call) }
        if isDirectory {
            guard self[inode: inode].isDirectory else { throw SystemCallError(ENOTDIR, call) }
            guard self[inode: inode].entries.isEmpty else { throw SystemCallError(ENOTEMPTY, call) }
        } else if self[inode: inode].isDirectory {
            throw SystemCallError(EISDIR, call)
        }
        change(parent, [(name, nil)])
        unlink(inode)
    }

    mutating func rename(_ path: String, to newPath: String) throws(SystemCallError) {
        let (parent, name) = try resolveParent(path, "rename")
        let (newParent, newName) = try resolveParent(newPath, "rename")
        guard let inode = self[inode: parent].entries[name] else { throw SystemCallError(ENOENT, "rename") }
        // Moves between directories and moves of directories have no place in the model.
        guard parent == newParent, !self[inode: inode].isDirectory else { throw SystemCallError(EXDEV, "rename") }
        guard name != newName else { return }
        let replaced = self[inode: parent].entries[newName]
        if let replaced, self[inode: replaced].isDirectory { throw SystemCallError(EISDIR, "rename") }
        change(parent, [(name, nil), (newName, inode)])
        if let replaced { unlink(replaced) }
    }

    private mutating func change(_ directory: Int, _ assignments: [(name: String, inode: Int?)]) {
        for (name, inode) in assignments { self[inode: directory].entries[name] = inode }
        let change = SimulatedInode.NameChange(assignments: assignments)
        self[inode: directory].pendingNames.append(.init(sequence: tick(), change: change))
    }

    private mutating func unlink(_ inode: Int) {
        self[inode: inode].links -= 1
        release(inode)
    }

    // MARK: Descriptors

    mutating func open(_ inode: Int) -> Int32 {
        self[inode: inode].descriptors += 1
        defer { nextDescriptor += 1 }
        descriptors[nextDescriptor] = inode
        return nextDescriptor
    }

    mutating func close(_ descriptor: Int32) throws(SystemCallError) {
        guard let inode = descriptors.removeValue(forKey: descriptor) else { throw SystemCallError(EBADF, "close") }
        direct.remove(descriptor)
        self[inode: inode].descriptors -= 1
        release(inode)
    }

    func inode(of descriptor: Int32, _ call: String) throws(SystemCallError) -> Int {
        guard let inode = descriptors[descriptor] else { throw SystemCallError(EBADF, call) }
        return inode
    }

    private mutating func release(_ inode: Int) {
        if self[inode: inode].isReleased { used -= self[inode: inode].bytes.count }
    }

    // MARK: Bytes

    /// Writes as many of `bytes` as there is space for.
    mutating func write(_ inode: Int, at offset: Int, _ bytes: [UInt8]) throws(SystemCallError) -> Int {
        let available = capacity - used
        let growth = max(0, offset + bytes.count - self[inode: inode].bytes.count)
        var written = bytes
        if growth > available {
            let fitting = bytes.count - (growth - available)
            guard fitting > 0 else { throw SystemCallError(ENOSPC, "pwrite") }
            written = Array(bytes[..<fitting])
        }
        let oldCount = self[inode: inode].bytes.count
        append(.write(offset: offset, bytes: written), to: inode)
        let newCount = self[inode: inode].bytes.count
        // The size is a change of its own: it and the bytes reach the device independently.
        if newCount > oldCount { append(.resize(newCount), to: inode) }
        used += newCount - oldCount
        return written.count
    }

    mutating func resize(_ inode: Int, to byteCount: Int, _ call: String) throws(SystemCallError) {
        let growth = byteCount - self[inode: inode].bytes.count
        guard growth != 0 else { return }
        if growth > capacity - used { throw SystemCallError(ENOSPC, call) }
        append(.resize(byteCount), to: inode)
        used += growth
    }

    private mutating func append(_ change: SimulatedInode.DataChange, to inode: Int) {
        let sequence = tick()
        SimulatedInode.apply(change, to: &self[inode: inode].bytes)
        self[inode: inode].pendingData.append(.init(sequence: sequence, change: change))
        self[inode: inode].modified = Int64(sequence)
    }

    mutating func synchronize(_ inode: Int) {
        self[inode: inode].synchronize()
        if self[inode: inode].isDirectory { sweep() }
    }

    /// Forgets inodes that neither a process nor a crash can bring back, once they are many.
    private mutating func sweep() {
        let count = inodes.count - freeInodes.count
        guard count > 64 + 2 * inodesAfterSweep else { return }
        var isUsed = [Bool](repeating: false, count: inodes.count)
        for case let inode? in inodes {
            for index in inode.entries.values { isUsed[index] = true }
            for index in inode.durableEntries.values { isUsed[index] = true }
            for pending in inode.pendingNames {
                for assignment in pending.change.assignments {
                    if let index = assignment.inode { isUsed[index] = true }
                }
            }
        }
        for index in inodes.indices where index != Self.root && !isUsed[index] {
            guard let inode = inodes[index], inode.isReleased else { continue }
            inodes[index] = nil
            freeInodes.append(index)
        }
        inodesAfterSweep = inodes.count - freeInodes.count
    }

    private mutating func tick() -> Int {
        defer { sequence += 1 }
        return sequence
    }

    private func components(of path: String) -> [String] {
        path.utf8.split(separator: UInt8(ascii: "/")).compactMap { part in
            let name = String(decoding: part, as: UTF8.self)
            return name == "." ? nil : name
        }
    }
}

/// What a ``SimulatedDisk`` does with reads and writes that are to pass by the page cache. What they write is as little
/// durable as anything else before an `fsync`: it may be in the device's own cache.
package enum DirectAccessSupport: Sendable, Hashable, CaseIterable {
    /// Takes them if offset and length are multiples of 4096 and the address one of 512.
    case aligned
    /// Lets a descriptor be set up for them and then refuses each.
    case refusedByCalls
    /// Knows none.
    case refused
}

extension SimulatedDiskState {
    /// Throws as a file system does that cannot move these bytes past the page cache.
    mutating func checkDirect(_ descriptor: Int32, _ isAligned: Bool, _ call: String) throws(SystemCallError) {
        guard direct.contains(descriptor) else { return }
        guard isAligned, directAccess == .aligned else { throw SystemCallError(EINVAL, call) }
        directCallCount += 1
    }
}
