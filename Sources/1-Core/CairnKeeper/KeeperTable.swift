package import CairnBase
import CairnCheckpoint
package import CairnStorage

/// What a keeper has: the objects of jobs, the memory that they take, and the connections that use them.
///
/// It decides and counts. Reserving memory takes long, so the server does that between ``reserve(_:key:byteCount:)`` and
/// ``provide(_:writer:memory:)``.
package struct KeeperTable {
    /// A job of a user. Those of different users never meet, whatever their names.
    package struct JobName: Hashable, Sendable {
        package var user: UInt32
        package var name: String

        package init(user: UInt32, name: String) {
            self.user = user
            self.name = name
        }
    }

    package struct KeptObject: Sendable {
        package var memory: KeptMemory
        package var byteCount: Int
        /// Nanoseconds since 1970.
        package var modified: Int64
        /// The connection that wrote it; 0 for what the group brought.
        package var creator: Int
        /// Whether it is a copy of what another host's keeper has.
        package var isCopy = false

        package init(memory: KeptMemory, byteCount: Int, modified: Int64, creator: Int, isCopy: Bool = false) {
            self.memory = memory
            self.byteCount = byteCount
            self.modified = modified
            self.creator = creator
            self.isCopy = isCopy
        }
    }

    /// An object that is being written.
    package struct Writer {
        package var key: String
        package var capacity: Int
        /// `nil` while the memory is being reserved.
        package var memory: KeptMemory?
    }

    package struct Connection {
        package var peer: KeeperSocket.Peer
        package var job: JobName?
        package var isObserver = false
        package var writers: [Int: Writer] = [:]
        package var readers: [Int: KeptMemory] = [:]
        /// Objects of other hosts that it reads.
        package var remoteReaders: [Int: KeeperRemoteObject] = [:]
        /// Memory of objects that it wrote and that are gone: used for its next ones, because memory that was used before takes a
        /// fraction of the time to write. No other process has it open, so no other one can change what is written next.
        package var spares: [KeptMemory] = []
    }

    /// What came of asking for memory.
    package enum Reservation {
        case recycled(writer: Int, KeptMemory)
        /// So many bytes are put aside and have to be provided.
        case granted(writer: Int, capacity: Int)
    }

    package let limits: KeeperLimits
    package var jobs: [JobName: [String: KeptObject]] = [:]
    package var connections: [Int: Connection] = [:]
    package var counters = KeeperCounters()
    /// Bytes of memory by user: of objects, of what is being written, and spare.
    package internal(set) var used: [UInt32: Int] = [:]
    /// Memory that a process may still have mapped although its connection is gone.
    var mappedElsewhere: Set<ObjectIdentifier> = []
    private var lastNumber = 0
    /// The newest time of any object of the group. A later object gets a later one, whatever the clocks of the hosts say.
    package var latestTime: Int64 = 0
    /// Whether the keeper is one of a group, which knows when a file that no manifest names is of no use.
    package var isOfGroup = false

    package init(limits: KeeperLimits) { self.limits = limits }

    package var usedByteCount: Int { used.values.reduce(0, +) }

    // MARK: - Connections

    package mutating func connect(_ peer: KeeperSocket.Peer) throws(CairnError) -> Int {
        guard connections.count < limits.connections else {
            throw CairnError(
                .noSpace, "the keeper has as many connections as it allows",
                .init(expected: "at most \(limits.connections)"))
        }
        let number = nextNumber()
        connections[number] = Connection(peer: peer)
        return number
    }

    package mutating func setJob(_ connection: Int, _ job: JobName, isObserver: Bool) throws(CairnError) {
        guard connections[connection]?.job == nil else {
            throw CairnError(.invalidArgument, "the connection has a job already", .init(found: job.name))
        }
        if !isObserver, jobs[job] == nil {
            guard jobs.keys.count(where: { $0.user == job.user }) < limits.jobsPerUser else {
                throw CairnError(
                    .noSpace, "the keeper has as many jobs of this user as it allows",
                    .init(
                        expected: "at most \(limits.jobsPerUser)",
                        advice: "`cairn keep status` lists them, `cairn keep forget JOB` removes one"))
            }
            jobs[job] = [:]
        }
        connections[connection]?.job = job
        connections[connection]?.isObserver = isObserver
    }

    /// Forgets a connection: what it was writing never appears.
    package mutating func disconnect(_ number: Int) {
        guard let connection = connections.removeValue(forKey: number) else { return }
        let user = connection.job?.user ?? connection.peer.user
        for writer in connection.writers.values { release(writer.capacity, of: user) }
        for spare in connection.spares { release(spare.capacity, of: user) }
        for memory in connection.readers.values { mappedElsewhere.insert(ObjectIdentifier(memory)) }
        counters.abandoned += connection.writers.count
        guard !isOfGroup, let job = connection.job, !connection.isObserver,
            !connections.values.contains(where: { $0.job == job && !$0.isObserver })
        else { return }
        removeUncommitted(job)
    }

    /// Once no process of a job is left: removes the files of checkpoints that nobody will commit any more.
    private mutating func removeUncommitted(_ job: JobName) {
        let objects = jobs[job] ?? [:]
        let needed = Self.neededKeys(objects)
        for (key, _) in objects where key != Self.manifest(beside: key) && !needed.contains(key) {
            guard let manifest = Self.manifest(beside: key), objects[manifest] == nil else { continue }
            remove(key, of: job)
        }
        if jobs[job]?.isEmpty == true { jobs[job] = nil }
    }

    /// What the checkpoints of a job refer to, in folders that may have lost their own manifest.
    private static func neededKeys(_ objects: [String: KeptObject]) -> Set<String> {
        var keys = Set<String>()
        for (key, object) in objects where key == manifest(beside: key) {
            guard let bytes = try? object.memory.bytes(0..<object.byteCount),
                let manifest = try? Manifest(parsing: bytes, file: key)
            else { continue }
            keys.formUnion(manifest.neededKeys)
        }
        return keys
    }

    // MARK: - Writing

    /// Gives a writer the memory that was granted.
    package mutating func provide(_ connection: Int, writer: Int, memory: KeptMemory) {
        connections[connection]?.writers[writer]?.memory = memory
    }

    /// Ends a writer, and its memory with it.
    package mutating func discard(_ connection: Int, writer: Int) {
        guard let writer = connections[connection]?.writers.removeValue(forKey: writer) else { return }
        if let memory = writer.memory {
            retire(memory, creator: connection, of: user(of: connection))
        } else {
            release(writer.capacity, of: user(of: connection))
        }
    }

    /// The object appears, and replaces what had its key.
    package mutating func finish(_ connection: Int, writer number: Int, byteCount: Int, now: Int64) throws(CairnError) {
        let job = try writingJob(of: connection)
        guard let writer = connections[connection]?.writers[number], let memory = writer.memory else {
            throw CairnError(.invalidArgument, "the connection writes no such object", .init(found: "\(number)"))
        }
        guard byteCount >= 0, byteCount <= memory.capacity else {
            discard(connection, writer: number)
            throw CairnError(
                .invalidArgument, "the object has more bytes than its memory",
                .init(file: writer.key, expected: "at most \(memory.capacity)", found: "\(byteCount)"))
        }
        do throws(CairnError) {
            try memory.seal(writer.key)
        } catch {
            connections[connection]?.writers[number] = nil
            release(writer.capacity, of: job.user)
            throw error
        }
        connections[connection]?.writers[number] = nil
        remove(writer.key, of: job)
        latestTime = max(now, latestTime.adding(clamped: 1))
        jobs[job, default: [:]][writer.key] = KeptObject(
            memory: memory, byteCount: byteCount, modified: latestTime, creator: connection)
        counters.finished += 1
        if writer.key == Self.manifest(beside: writer.key) { counters.committed += 1 }
    }

    // MARK: - Reading

    package mutating func open(_ connection: Int, key: String) throws(CairnError) -> (reader: Int, object: KeptObject) {
        try StorageKey.validate(key)
        let job = try job(of: connection)
        guard let object = jobs[job]?[key] else {
            throw CairnError(.notFound, "the keeper has no such object", .init(file: key))
        }
        guard (connections[connection]?.readers.count ?? 0) < limits.openObjects else {
            throw CairnError(.noSpace, "the connection has as many objects open as the keeper allows", .init(file: key))
        }
        let number = nextNumber()
        connections[connection]?.readers[number] = object.memory
        return (number, object)
    }

    /// Opens an object of another host.
    package mutating func open(_ connection: Int, _ object: KeeperRemoteObject) throws(CairnError) -> Int {
        guard (connections[connection]?.remoteReaders.count ?? 0) < limits.openObjects else {
            throw CairnError(
                .noSpace, "the connection has as many objects open as the keeper allows", .init(file: object.key))
        }
        let number = nextNumber()
        connections[connection]?.remoteReaders[number] = object
        return number
    }

    package mutating func release(_ connection: Int, reader: Int) {
        connections[connection]?.readers[reader] = nil
        connections[connection]?.remoteReaders[reader] = nil
    }

    /// The entries that begin with a prefix and come after a key, as far as they fit a message.
    package func list(_ connection: Int, prefix: String, after: String?) throws(CairnError) -> ([StorageEntry], isComplete: Bool)
    {
        try StorageKey.validate(prefix: prefix)
        return Self.page(of: entries(of: try job(of: connection), prefix: prefix, after: after))
    }

    /// The entries of a job that begin with a prefix and come after a key, in order.
    package func entries(of job: JobName, prefix: String, after: String?) -> [StorageEntry] {
        (jobs[job] ?? [:]).filter { key, _ in
            StorageKey.has(key, prefix: prefix) && after.map { StorageKey.precedes($0, key) } ?? true
        }.map { StorageEntry(key: $0.key, byteCount: $0.value.byteCount, modified: $0.value.modified) }
            .sorted { StorageKey.precedes($0.key, $1.key) }
    }

    /// The first of some entries: as many as fit a message.
    package static func page(of entries: [StorageEntry]) -> ([StorageEntry], isComplete: Bool) {
        var room = KeeperSocket.maximumMessageByteCount / 2
        let page = entries.prefix { entry in
            // A key may grow to six times its size as JSON; the limit of its length leaves room for one.
            room -= 6 * entry.key.utf8.count + 64
            return room >= 0
        }
        return page.count == entries.count ? (entries, true) : (Array(entries.prefix(max(1, page.count))), false)
    }

    // MARK: - Deleting

    package mutating func delete(_ connection: Int, keys: [String]) throws(CairnError) {
        let job = try writingJob(of: connection)
        for key in keys { try StorageKey.validate(key) }
        for key in keys { remove(key, of: job) }
    }

    /// Removes a job that no process uses.
    package mutating func forget(_ job: JobName) throws(CairnError) {
        guard let objects = jobs[job] else {
            throw CairnError(.notFound, "the keeper has no such job", .init(found: job.name))
        }
        guard !connections.values.contains(where: { $0.job == job && !$0.isObserver }) else {
            throw CairnError(
                .invalidArgument, "a process of the job is connected", .init(found: job.name, advice: "end it first"))
        }
        for key in objects.keys { remove(key, of: job) }
        jobs[job] = nil
    }

    package mutating func remove(_ key: String, of job: JobName) {
        guard let old = jobs[job]?.removeValue(forKey: key) else { return }
        retire(old.memory, creator: old.creator, of: job.user)
    }

    /// An object that the group brought into memory held by ``hold(_:of:_:)``. It replaces what had its key.
    package mutating func insert(_ object: KeptObject, as key: String, of job: JobName) {
        remove(key, of: job)
        latestTime = max(latestTime, object.modified)
        jobs[job, default: [:]][key] = object
    }

    /// The manifest of the checkpoint that a file is of.
    package static func manifest(beside key: String) -> String? {
        StepName.step(ofKey: key).map { StepName.prefix($0) + CairnReader.manifestName }
    }

    // MARK: - Who

    package func job(of connection: Int) throws(CairnError) -> JobName {
        guard let job = connections[connection]?.job else {
            throw CairnError(.invalidArgument, "the connection has not said which job it is about")
        }
        return job
    }

    func writingJob(of connection: Int) throws(CairnError) -> JobName {
        let job = try job(of: connection)
        guard connections[connection]?.isObserver == false else {
            throw CairnError(.accessDenied, "an observer changes nothing", .init(found: job.name))
        }
        return job
    }

    func user(of connection: Int) -> UInt32 {
        connections[connection].map { $0.job?.user ?? $0.peer.user } ?? 0
    }

    mutating func nextNumber() -> Int {
        lastNumber += 1
        return lastNumber
    }
}
