package import CairnBase
import CairnStorage

/// The memory of a keeper: put aside for objects, taken back, used again, and counted by user.
extension KeeperTable {
    /// Puts memory aside for a new object.
    ///
    /// - Throws: ``CairnError/Code/noSpace`` when the limits leave too little.
    package mutating func reserve(_ connection: Int, key: String, byteCount: Int) throws(CairnError) -> Reservation {
        let job = try writingJob(of: connection)
        try StorageKey.validate(key)
        try StorageKey.validate(offset: 0, byteCount: byteCount, of: key)
        guard (connections[connection]?.writers.count ?? 0) < limits.openObjects, key.utf8.count <= limits.keyByteCount,
            (jobs[job]?.count ?? 0) < limits.objectsPerJob
        else {
            throw CairnError(
                .noSpace, "the job has as many objects as the keeper allows, or one of too long a name", .init(file: key))
        }
        let number = nextNumber()
        let most = byteCount.adding(checked: byteCount / 4)?.adding(checked: 1 << 20) ?? .max
        if let index = connections[connection]?.spares.firstIndex(where: { (byteCount...most).contains($0.capacity) }),
            let memory = connections[connection]?.spares.remove(at: index)
        {
            connections[connection]?.writers[number] = Writer(key: key, capacity: memory.capacity, memory: memory)
            return .recycled(writer: number, memory)
        }
        guard let capacity = byteCount.adding(checked: 4095).map({ $0 & ~4095 }) else {
            throw CairnError(.invalidArgument, "no memory has so many bytes", .init(file: key, found: "\(byteCount)"))
        }
        try makeRoom(for: capacity, of: job.user, key)
        used[job.user, default: 0] += capacity
        connections[connection]?.writers[number] = Writer(key: key, capacity: capacity, memory: nil)
        return .granted(writer: number, capacity: capacity)
    }

    /// Takes memory back: for the next object of the process that wrote it, if no other one may look at it.
    mutating func retire(_ memory: KeptMemory, creator: Int, of user: UInt32) {
        let isShared =
            mappedElsewhere.remove(ObjectIdentifier(memory)) != nil
            || connections.values.contains { $0.readers.values.contains { $0 === memory } }
        if !isShared, memory.capacity >= limits.leastSpare, let spares = connections[creator]?.spares,
            spares.count < limits.sparesPerConnection
        {
            connections[creator]?.spares.append(memory)
        } else {
            release(memory.capacity, of: user)
        }
    }

    /// Gives spare memory up until so much is free.
    private mutating func makeRoom(for byteCount: Int, of user: UInt32, _ key: String) throws(CairnError) {
        func isShort(_ table: KeeperTable) -> Bool { table.free(for: user) < byteCount }
        while isShort(self) {
            let isOwnShort = limits.memoryPerUser - (used[user] ?? 0) < byteCount
            guard
                let number = connections.first(where: { entry in
                    !entry.value.spares.isEmpty && (!isOwnShort || self.user(of: entry.key) == user)
                })?.key, let spare = connections[number]?.spares.popLast()
            else { break }
            release(spare.capacity, of: self.user(of: number))
        }
        guard !isShort(self) else {
            counters.refused += 1
            throw CairnError(
                .noSpace, "the keeper's memory is used up",
                .init(
                    file: key, expected: "\(byteCount) bytes", found: "\(max(0, free(for: user))) bytes",
                    advice: "keep fewer checkpoints in it, or start it with more --memory"))
        }
    }

    private func free(for user: UInt32) -> Int {
        min(limits.memory - usedByteCount, limits.memoryPerUser - (used[user] ?? 0))
    }

    /// Puts memory aside for what the group brings: copies, parity.
    ///
    /// - Returns: So many bytes are to be reserved, and given back with ``release(_:of:)``.
    /// - Throws: ``CairnError/Code/noSpace`` when the limits leave too little.
    package mutating func hold(_ byteCount: Int, of user: UInt32, _ name: String) throws(CairnError) -> Int {
        guard let capacity = byteCount.adding(checked: 4095).map({ $0 & ~4095 }) else {
            throw CairnError(.invalidArgument, "no memory has so many bytes", .init(file: name, found: "\(byteCount)"))
        }
        try makeRoom(for: capacity, of: user, name)
        used[user, default: 0] += capacity
        return capacity
    }

    package mutating func release(_ byteCount: Int, of user: UInt32) {
        let rest = (used[user] ?? 0) - byteCount
        used[user] = rest > 0 ? rest : nil
    }
}

/// How much a keeper allows.
package struct KeeperLimits: Sendable {
    package var memory: Int
    package var memoryPerUser: Int
    package var connections = 1024
    package var jobsPerUser = 64
    package var objectsPerJob = 100_000
    package var openObjects = 4096
    package var keyByteCount = 1024
    package var sparesPerConnection = 4
    /// Smaller memory is not worth keeping.
    package var leastSpare = 1 << 20

    package init(memory: Int, memoryPerUser: Int) {
        self.memory = memory
        self.memoryPerUser = memoryPerUser
    }
}

/// What has happened since a keeper was started.
package struct KeeperCounters: Sendable {
    package var finished = 0
    /// Manifests that were finished.
    package var committed = 0
    /// Objects that were not finished when their process went away.
    package var abandoned = 0
    /// Objects for which there was no memory.
    package var refused = 0
}
