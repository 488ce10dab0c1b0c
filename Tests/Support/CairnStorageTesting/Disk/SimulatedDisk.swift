package import CairnStorage
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A disk in memory with a page cache, of which a power failure takes away what was not synchronized, and whose calls
/// fail where a test wants them to.
///
/// Everything is deterministic as long as one thread uses it: calls are numbered from 1, and a seed decides what a
/// crash leaves. Paths are absolute or relative to the root; moving files between directories is not supported.
package final class SimulatedDisk: FileSystem {
    package let distinction: Distinction? = Distinction()

    struct Machine: Sendable {
        var disk: SimulatedDiskState
        var callCount = 0
        var faults: [Int: SimulatedFault] = [:]
        var isStopped = false
        /// The error of every changing call, once one was told to fail from there on.
        var brokenBy: Int32?
        var history: CrashHistory?
    }

    let machine: Mutex<Machine>

    /// An empty disk with room for `capacity` bytes of files.
    package convenience init(capacity: Int = .max, directAccess: DirectAccessSupport = .aligned) {
        self.init(SimulatedDiskState(capacity: capacity, directAccess: directAccess))
    }

    /// How many reads and writes passed by the page cache.
    package var directCallCount: Int { machine.withLock { $0.disk.directCallCount } }

    init(_ state: SimulatedDiskState) {
        machine = Mutex(Machine(disk: state))
    }

    /// How many calls were made.
    package var callCount: Int { machine.withLock { $0.callCount } }

    /// Whether a fault has stopped the disk.
    package var isStopped: Bool { machine.withLock { $0.isStopped } }

    /// The bytes of all files that processes can reach.
    package var usedBytes: Int { machine.withLock { $0.disk.used } }

    /// How many descriptors are open.
    package var openDescriptorCount: Int { machine.withLock { $0.disk.descriptors.count } }

    /// How many files and directories the model holds, with those that only a crash could bring back.
    package var inodeCount: Int { machine.withLock { $0.disk.inodes.count } }

    /// Changes the number of bytes there is room for.
    package func setCapacity(_ byteCount: Int) {
        machine.withLock { $0.disk.capacity = byteCount }
    }

    /// Plans `fault` for the call with the number `call`, counted from 1 since the disk was made.
    package func inject(_ fault: SimulatedFault, atCall call: Int) {
        machine.withLock { $0.faults[call] = fault }
    }

    /// The disk that the next boot finds when the power goes now. This one is not changed.
    package func crash(_ policy: CrashPolicy, seed: UInt64) -> SimulatedDisk {
        SimulatedDisk(machine.withLock { $0.disk }.crashed(policy, seed: seed))
    }

    /// A disk in the same state, with what is pending, but without open descriptors, faults and history.
    package func copy() -> SimulatedDisk {
        var state = machine.withLock { $0.disk }
        for descriptor in state.descriptors.keys.sorted() { try? state.close(descriptor) }
        return SimulatedDisk(state)
    }

    /// Every file as processes see it, by path.
    package var files: [String: [UInt8]] {
        let state = machine.withLock { $0.disk }
        var files: [String: [UInt8]] = [:]
        func visit(_ index: Int, _ path: String) {
            let inode = state[inode: index]
            guard inode.isDirectory else {
                files[path] = inode.bytes
                return
            }
            for (name, entry) in inode.entries { visit(entry, path + "/" + name) }
        }
        visit(SimulatedDiskState.root, "")
        return files
    }

    // MARK: FileSystem

    package func open(_ path: String, _ mode: FileOpenMode) throws(SystemCallError) -> Int32 {
        try call("open", changes: mode == .createExclusive) { machine throws(SystemCallError) in
            if mode == .createExclusive {
                let inode = try machine.disk.make(directory: false, at: path, "open")
                return machine.disk.open(inode)
            }
            let inode = try machine.disk.resolve(path, "open")
            if mode == .directory, !machine.disk[inode: inode].isDirectory { throw SystemCallError(ENOTDIR, "open") }
            return machine.disk.open(inode)
        }
    }

    package func close(_ descriptor: Int32) throws(SystemCallError) {
        try call("close") { machine throws(SystemCallError) in
            try machine.disk.close(descriptor)
        } onFailure: { machine, _ in
            // As on Linux, the descriptor is gone whatever close(2) says.
            try? machine.disk.close(descriptor)
        }
    }

    package func read(
        _ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemCallError) -> Int {
        // Copied after the lock is released: the lock may not see the caller's pointer.
        let count = buffer.count
        let isAligned = (offset | count) % 4096 == 0 && Int(bitPattern: buffer.baseAddress) % 512 == 0
        let bytes = try call("pread") { machine throws(SystemCallError) in
            let inode = try machine.disk.inode(of: descriptor, "pread")
            try machine.disk.checkDirect(descriptor, isAligned, "pread")
            if machine.disk[inode: inode].isDirectory { throw SystemCallError(EISDIR, "pread") }
            let bytes = machine.disk[inode: inode].bytes
            guard offset < bytes.count else { return ArraySlice<UInt8>() }
            return bytes[offset..<offset + min(machine.shortened(count), bytes.count - offset)]
        }
        buffer.copyBytes(from: bytes)
        return bytes.count
    }

    package func write(
        _ descriptor: Int32, at offset: Int, from buffer: UnsafeRawBufferPointer
    ) throws(SystemCallError) -> Int {
        let (bytes, count) = (Array(buffer), buffer.count)
        let isAligned = (offset | count) % 4096 == 0 && Int(bitPattern: buffer.baseAddress) % 512 == 0
        return try call("pwrite", changes: true) { machine throws(SystemCallError) in
            let inode = try machine.disk.inode(of: descriptor, "pwrite")
            try machine.disk.checkDirect(descriptor, isAligned, "pwrite")
            return try machine.disk.write(inode, at: offset, Array(bytes.prefix(machine.shortened(bytes.count))))
        }
    }

    package func synchronize(_ descriptor: Int32) throws(SystemCallError) {
        try call("fsync", changes: true) { machine throws(SystemCallError) in
            machine.disk.synchronize(try machine.disk.inode(of: descriptor, "fsync"))
        } onFailure: { machine, number in
            guard number != EINTR, let inode = machine.disk.descriptors[descriptor] else { return }
            machine.disk[inode: inode].failToSynchronize()
        }
    }

    package func truncate(_ descriptor: Int32, to byteCount: Int) throws(SystemCallError) {
        try call("ftruncate", changes: true) { machine throws(SystemCallError) in
            let inode = try machine.disk.inode(of: descriptor, "ftruncate")
            try machine.disk.resize(inode, to: byteCount, "ftruncate")
        }
    }

    package func allocate(_ descriptor: Int32, byteCount: Int) throws(SystemCallError) {
        try call("fallocate", changes: true) { machine throws(SystemCallError) in
            let inode = try machine.disk.inode(of: descriptor, "fallocate")
            if byteCount > machine.disk[inode: inode].bytes.count {
                try machine.disk.resize(inode, to: byteCount, "fallocate")
            }
        }
    }

    package func setDirect(_ descriptor: Int32, _ isDirect: Bool) throws(SystemCallError) {
        try call("fcntl") { machine throws(SystemCallError) in
            _ = try machine.disk.inode(of: descriptor, "fcntl")
            if isDirect, machine.disk.directAccess == .refused { throw SystemCallError(EINVAL, "fcntl") }
            if isDirect { machine.disk.direct.insert(descriptor) } else { machine.disk.direct.remove(descriptor) }
        }
    }

    package func directMemoryAlignment(of descriptor: Int32) -> Int { 512 }

    package func reopen(_ descriptor: Int32) throws(SystemCallError) -> Int32 {
        try call("open") { machine throws(SystemCallError) in
            machine.disk.open(try machine.disk.inode(of: descriptor, "open"))
        }
    }

    package func isMostlyCached(_ descriptor: Int32, byteCount: Int) -> Bool { false }

    package func startWriteback(_ descriptor: Int32, at offset: Int, byteCount: Int) {}

    package func map(_ descriptor: Int32, byteCount: Int) throws(SystemCallError) -> MemoryMapping? {
        let bytes = try call("mmap") { machine throws(SystemCallError) in
            machine.disk[inode: try machine.disk.inode(of: descriptor, "mmap")].bytes
        }
        guard bytes.count == byteCount else { throw SystemCallError(EINVAL, "mmap") }
        guard let mapping = MemoryMapping(copying: bytes) else { throw SystemCallError(ENOMEM, "mmap") }
        return mapping
    }

    package func status(of descriptor: Int32) throws(SystemCallError) -> FileStatus {
        try call("fstat") { machine throws(SystemCallError) in
            FileStatus(machine.disk[inode: try machine.disk.inode(of: descriptor, "fstat")])
        }
    }

    package func status(at path: String) throws(SystemCallError) -> FileStatus {
        try call("stat") { machine throws(SystemCallError) in
            FileStatus(machine.disk[inode: try machine.disk.resolve(path, "stat")])
        }
    }

    package func entries(of path: String) throws(SystemCallError) -> [DirectoryEntry] {
        try call("opendir") { machine throws(SystemCallError) in
            let inode = machine.disk[inode: try machine.disk.resolve(path, "opendir")]
            guard inode.isDirectory else { throw SystemCallError(ENOTDIR, "opendir") }
            return inode.entries.map { name, entry in
                DirectoryEntry(name: name, kind: FileStatus(machine.disk[inode: entry]).kind)
            }
        }
    }

    package func rename(_ path: String, to newPath: String) throws(SystemCallError) {
        try call("rename", changes: true) { machine throws(SystemCallError) in
            try machine.disk.rename(path, to: newPath)
        }
    }

    package func unlink(_ path: String) throws(SystemCallError) {
        try call("unlink", changes: true) { machine throws(SystemCallError) in
            try machine.disk.remove(path, directory: false, "unlink")
        }
    }

    package func makeDirectory(_ path: String) throws(SystemCallError) {
        try call("mkdir", changes: true) { machine throws(SystemCallError) in
            _ = try machine.disk.make(directory: true, at: path, "mkdir")
        }
    }

    package func removeDirectory(_ path: String) throws(SystemCallError) {
        try call("rmdir", changes: true) { machine throws(SystemCallError) in
            try machine.disk.remove(path, directory: true, "rmdir")
        }
    }

    /// Counted, not drawn, so that a run can be repeated.
    package func uniqueToken() -> UInt64 {
        machine.withLock { machine in
            machine.disk.nextToken += 1
            return machine.disk.nextToken
        }
    }

    // MARK: Faults

    /// Makes one call under the lock, with the fault planned for it.
    private func call<Value: Sendable>(
        _ name: String, changes: Bool = false,
        _ body: (inout Machine) throws(SystemCallError) -> Value,
        onFailure: (inout Machine, Int32) -> Void = { _, _ in }
    ) throws(SystemCallError) -> Value {
        try machine.withLock { machine throws(SystemCallError) in
            let stop = SystemCallError(EIO, name, cause: SimulatedDiskStopped())
            if machine.isStopped { throw stop }
            machine.callCount += 1
            let fault = machine.faults[machine.callCount]
            if case .failFromHereOn(let number) = fault { machine.brokenBy = number }
            if case .stopBefore = fault {
                machine.isStopped = true
                throw stop
            }
            var failure: Int32?
            if case .fail(let number) = fault { failure = number }
            if changes, let number = machine.brokenBy { failure = number }
            if let failure {
                onFailure(&machine, failure)
                machine.history?.record(machine.disk, after: name, call: machine.callCount)
                throw SystemCallError(failure, name)
            }
            if case .stopAfter = fault {
                machine.isStopped = true
                _ = try? body(&machine)
                throw stop
            }
            let value = try body(&machine)
            if changes { machine.history?.record(machine.disk, after: name, call: machine.callCount) }
            return value
        }
    }
}

extension SimulatedDisk.Machine {
    /// How many of `byteCount` bytes the present call may move.
    fileprivate func shortened(_ byteCount: Int) -> Int {
        faults[callCount] == .short && byteCount > 1 ? byteCount / 2 : byteCount
    }
}

extension FileStatus {
    fileprivate init(_ inode: SimulatedInode) {
        self.init(
            kind: inode.isDirectory ? .directory : .file, byteCount: inode.bytes.count, modified: inode.modified)
    }
}

extension MemoryMapping {
    /// Bytes of no file, mapped all the same.
    fileprivate convenience init?(copying bytes: [UInt8]) {
        let byteCount = max(1, bytes.count)
        guard let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            address != MAP_FAILED
        else { return nil }
        UnsafeMutableRawBufferPointer(start: address, count: byteCount).copyBytes(from: bytes)
        self.init(adopting: address, mappedByteCount: byteCount, byteCount: bytes.count)
    }
}
