public import CairnBase
import CairnCheckpoint
import CairnStorage
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A process that holds checkpoints in its memory for the trainers of a host, so that they outlive these.
///
/// Trainers reach it through ``KeeperStorage``. The bytes go straight into memory that both have open (memfd_create(2), handed
/// over by SCM_RIGHTS); the keeper itself copies nothing. It knows who connects (SO_PEERCRED): users never see each other's jobs.
/// It needs Linux. After REFT (Wang et al., "Reliable and Efficient In-Memory Fault Tolerance of Large Language Model
/// Pretraining", arXiv 2310.12670), whose snapshot management processes it is like.
public final class Keeper: Sendable {
    /// Where it listens.
    public let path: String
    private let options: KeeperOptions
    private let listener: KeeperSocket
    private let state: Monitor<State>
    private let began = ContinuousClock.now
    /// The keepers of other hosts.
    private let peers: (any KeeperPeers)?

    fileprivate struct State {
        var table: KeeperTable
        var sockets: [Int: KeeperSocket] = [:]
        var isAccepting = true
        /// Connections whose threads have not ended.
        var running = 0
    }

    /// Starts a keeper: from now on it answers, on threads of its own, until ``stop()``.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` when one listens there, and what keeps it from listening.
    public convenience init(at path: String = KeeperStorage.usualPath, options: KeeperOptions) throws(CairnError) {
        try self.init(at: path, options: options, joining: nil)
    }

    /// Starts a keeper of a group.
    ///
    /// - Parameter group: Joins the group; called before any trainer is answered.
    package init(
        at path: String, options: KeeperOptions,
        joining group: ((any KeeperTableAccess) throws(CairnError) -> any KeeperPeers)?
    ) throws(CairnError) {
        guard options.memory > 0, options.memoryPerUser.map({ $0 > 0 }) ?? true else {
            throw CairnError(.invalidArgument, "a keeper needs memory", .init(expected: "at least 1 byte", found: "none"))
        }
        if path == KeeperStorage.usualPath { try Self.makeFolder(of: path) }
        self.path = path
        self.options = options
        listener = try KeeperSocket(listeningAt: path, mode: options.isShared ? 0o666 : 0o600)
        state = Monitor(
            State(
                table: KeeperTable(
                    limits: KeeperLimits(
                        memory: options.memory, memoryPerUser: options.memoryPerUser ?? options.memory))))
        do throws(CairnError) {
            peers = try group?(TableAccess(state: state))
        } catch {
            listener.shutDown()
            unlink(path)
            throw error
        }
        startThread { self.acceptAll() }
    }

    /// Ends it: every connection, and with the last one all memory that nobody else has open.
    public func stop() {
        let sockets = state.change { state in
            state.isAccepting = false
            return Array(state.sockets.values)
        }
        listener.shutDown()
        for socket in sockets { socket.shutDown() }
        unlink(path)
        _ = state.wait(until: .now + .seconds(5)) { $0.running == 0 ? true : nil }
    }

    /// Takes no new objects any more, but lets what it has be read.
    public func stopTaking() { state.change { $0.isAccepting = false } }

    /// The user that it works for, and with.
    static var ownUser: Int { Int(geteuid()) }

    /// What it has, and what has happened.
    public var status: KeeperStatus {
        KeeperStatus(
            state.read(\.table), of: nil, path: path, process: getpid(), seconds: (.now - began) / .seconds(1),
            group: peers?.status(of: nil))
    }

    // MARK: - Connections

    private func acceptAll() {
        while true {
            do {
                guard let socket = try listener.accept() else { return }
                try welcome(socket)
            } catch {
                // Out of descriptors, or a process that went away at once: others may still come.
                guard state.read(\.isAccepting) else { return }
                usleep(10_000)
            }
        }
    }

    private func welcome(_ socket: KeeperSocket) throws(CairnError) {
        let peer = try socket.peer
        guard options.isShared || peer.user == geteuid() || peer.user == 0 else { return socket.shutDown() }
        let number: Int
        do throws(CairnError) {
            number = try state.change { state throws(CairnError) in
                let number = try state.table.connect(peer)
                state.sockets[number] = socket
                state.running += 1
                return number
            }
        } catch {
            try? socket.send(KeeperReply.failed(error).message)
            return
        }
        let isRunning = startThreadIfPossible {
            self.serve(socket, number, peer)
            self.end(number)
        }
        if !isRunning { end(number) }
    }

    private func end(_ number: Int) {
        state.change { state in
            state.table.disconnect(number)
            state.sockets[number] = nil
            state.running -= 1
        }
        peers?.changed()
    }

    private func serve(_ socket: KeeperSocket, _ number: Int, _ peer: KeeperSocket.Peer) {
        // A trainer may ask for nothing for hours. What it is sent is short, and it is waiting for it.
        try? socket.setTimeout(.zero)
        while true {
            do throws(CairnError) {
                guard let received = try socket.receive() else { return }
                let (reply, file) = answer(received.message, number, peer)
                try socket.send(reply.message, passing: file)
            } catch {
                return
            }
        }
    }

    /// Answers one request; the descriptor goes with the answer.
    private func answer(
        _ message: [UInt8], _ number: Int, _ peer: KeeperSocket.Peer
    ) -> (KeeperReply, FileDescriptor?) {
        do throws(CairnError) {
            return try answer(KeeperRequest(message), number, peer)
        } catch {
            return (.failed(error), nil)
        }
    }

    private func answer(
        _ request: KeeperRequest, _ number: Int, _ peer: KeeperSocket.Peer
    ) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        switch request {
        case .hello(let version, let job, let isObserver, let user):
            try greet(version, job, isObserver: isObserver, user: user ?? peer.user, number, peer)
            return (.done, nil)
        case .create(let key, let byteCount):
            return try create(number, key, byteCount)
        case .finish(let writer, let byteCount):
            let now = Self.now
            try state.change { state throws(CairnError) in
                try state.table.finish(number, writer: writer, byteCount: byteCount, now: now)
            }
            peers?.changed()
            return (.done, nil)
        case .discard(let writer):
            state.change { $0.table.discard(number, writer: writer) }
            return (.done, nil)
        case .open(let key): return try open(key, number)
        case .read(let reader, let offset, let count): return try read(reader, offset, count, number)
        case .release(let reader):
            state.change { $0.table.release(number, reader: reader) }
            return (.done, nil)
        case .list(let prefix, let after):
            let (entries, isComplete) = try list(prefix, after, number)
            return (.listed(entries, isComplete: isComplete), nil)
        case .delete(let keys):
            if let peers {
                for key in keys { try StorageKey.validate(key) }
                peers.delete(try writingJob(of: number), keys: keys)
            } else {
                try state.change { state throws(CairnError) in try state.table.delete(number, keys: keys) }
            }
            return (.done, nil)
        case .forget(let job):
            let user = state.read { $0.table.connections[number]?.job?.user } ?? peer.user
            try state.change { state throws(CairnError) in
                try state.table.forget(.init(user: user, name: job))
            }
            peers?.forget(.init(user: user, name: job))
            return (.done, nil)
        case .status:
            let isAdministrator = peer.user == 0 || peer.user == geteuid()
            let status = KeeperStatus(
                state.read(\.table), of: isAdministrator ? nil : peer.user, path: path, process: getpid(),
                seconds: (.now - began) / .seconds(1),
                group: peers?.status(of: isAdministrator ? nil : peer.user))
            return (.status(status.members), nil)
        }
    }

    private func greet(
        _ version: Int, _ job: String, isObserver: Bool, user: UInt32, _ number: Int, _ peer: KeeperSocket.Peer
    ) throws(CairnError) {
        guard version == KeeperRequest.version else {
            throw CairnError(
                .unsupported, "the keeper is of another version",
                .init(expected: "protocol \(KeeperRequest.version)", found: "protocol \(version)"))
        }
        guard user == peer.user || peer.user == 0 || peer.user == geteuid() else {
            throw CairnError(.accessDenied, "the job is another user's", .init(found: job))
        }
        guard !job.isEmpty, job.utf8.count <= 128, job.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f && $0 != 0x2f }) else {
            throw CairnError(
                .invalidArgument, "a job's name has 1 to 128 bytes, and no spaces and slashes",
                .init(found: job.debugDescription))
        }
        try state.change { state throws(CairnError) in
            try state.table.setJob(number, .init(user: user, name: job), isObserver: isObserver)
        }
    }

    private func create(
        _ number: Int, _ key: String, _ byteCount: Int
    ) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        let reservation = try state.change { state throws(CairnError) in
            guard state.isAccepting else {
                throw CairnError(.inputOutput, "the keeper is ending", .init(file: key, advice: "save to the disk"))
            }
            return try state.table.reserve(number, key: key, byteCount: byteCount)
        }
        switch reservation {
        case .recycled(let writer, let memory):
            return (.created(writer: writer, capacity: memory.capacity, isRecycled: true), memory.descriptor)
        case .granted(let writer, let capacity):
            do throws(CairnError) {
                let memory = try KeptMemory(capacity: capacity, name: key)
                state.change { $0.table.provide(number, writer: writer, memory: memory) }
                return (.created(writer: writer, capacity: capacity, isRecycled: false), memory.descriptor)
            } catch {
                state.change { $0.table.discard(number, writer: writer) }
                throw error
            }
        }
    }

    private func open(_ key: String, _ number: Int) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        do throws(CairnError) {
            let (reader, object) = try state.change { state throws(CairnError) in
                try state.table.open(number, key: key)
            }
            return (.opened(reader: reader, byteCount: object.byteCount), try object.memory.readOnly(key))
        } catch {
            guard error.code == .notFound, peers != nil else { throw error }
        }
        guard let object = try peers?.find(job(of: number), key: key) else { return (.done, nil) }
        let reader = try state.change { state throws(CairnError) in try state.table.open(number, object) }
        return (.openedElsewhere(reader: reader, byteCount: object.byteCount), nil)
    }

    /// Brings bytes of another host's object, in memory of their own.
    private func read(
        _ reader: Int, _ offset: Int, _ count: Int, _ number: Int
    ) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        guard let peers, let object = state.read({ $0.table.connections[number]?.remoteReaders[reader] }),
            offset >= 0, count >= 0, count <= KeeperRequest.greatestRead, let end = offset.adding(checked: count),
            end <= object.byteCount
        else { throw CairnError(.invalidArgument, "the connection reads no such object", .init(found: "\(reader)")) }
        let bytes = try peers.read(try job(of: number), object, offset..<end)
        let memory = try KeptMemory(capacity: count, name: object.key)
        try memory.write(bytes, at: 0)
        return (.opened(reader: reader, byteCount: count), try memory.readOnly(object.key))
    }

    private func list(
        _ prefix: String, _ after: String?, _ number: Int
    ) throws(CairnError) -> ([StorageEntry], isComplete: Bool) {
        guard let peers else {
            return try state.change(waking: .none) { state throws(CairnError) in
                try state.table.list(number, prefix: prefix, after: after)
            }
        }
        try StorageKey.validate(prefix: prefix)
        let job = try job(of: number)
        var entries: [String: StorageEntry] = [:]
        for entry in peers.list(job, prefix: prefix) where after.map({ StorageKey.precedes($0, entry.key) }) ?? true {
            entries[entry.key] = entry
        }
        // What is here is what is opened.
        for entry in state.read({ $0.table.entries(of: job, prefix: prefix, after: after) }) { entries[entry.key] = entry }
        return KeeperTable.page(of: entries.values.sorted { StorageKey.precedes($0.key, $1.key) })
    }

    private func writingJob(of number: Int) throws(CairnError) -> KeeperTable.JobName {
        try state.change(waking: .none) { state throws(CairnError) in try state.table.writingJob(of: number) }
    }

    private func job(of number: Int) throws(CairnError) -> KeeperTable.JobName {
        try state.change(waking: .none) { state throws(CairnError) in try state.table.job(of: number) }
    }

    private static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// Makes the folder of the usual path, which no other user may have made.
    private static func makeFolder(of path: String) throws(CairnError) {
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        mkdir(folder, 0o700)
        var record = stat()
        guard lstat(folder, &record) == 0 else { throw SystemCallError(errno, "stat").explained("look at", folder) }
        guard record.st_mode & S_IFMT == S_IFDIR, record.st_uid == geteuid(), record.st_mode & 0o022 == 0 else {
            throw CairnError(
                .accessDenied, "the folder is not this user's alone",
                .init(file: folder, advice: "give a path of your own with --socket"))
        }
    }
}

extension Keeper {
    /// The table of a keeper, for its group.
    private final class TableAccess: KeeperTableAccess {
        private let state: Monitor<State>

        init(state: Monitor<State>) { self.state = state }

        func change<Result, Failure: Error>(
            _ body: (inout KeeperTable) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try state.change { state throws(Failure) in try body(&state.table) }
        }
    }
}

/// What a keeper may take, and for whom it works.
public struct KeeperOptions: Sendable {
    /// The bytes of memory that it takes at most, for all jobs of all users.
    public var memory: Int
    /// The bytes that it takes for one user at most; `nil` allows all.
    public var memoryPerUser: Int?
    /// Whether other users may connect. Their jobs are kept apart.
    public var isShared = false

    public init(memory: Int) { self.memory = memory }
}
