public import CairnBase
public import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The objects of a job that a ``Keeper`` of this host holds in its memory.
///
/// A tier like any other: snapshots drain into it, restarts load from it, and nothing of it is lost when the trainer is killed.
/// An object that is being written when its process dies never appears, and files that nobody commits are removed with the job's
/// last process.
///
/// ```swift
/// let kept = CheckpointStore(storage: try KeeperStorage(job: "kjv"), name: "keeper")
/// let tiers = [CheckpointTier("keeper", store: kept, retention: RetentionPolicy(keepLast: 1)), CheckpointTier("disk", …)]
/// ```
public final class KeeperStorage: Storage {
    /// Where a keeper listens if nothing else is said: `CAIRN_KEEPER`, or `cairn/keeper.sock` in the user's runtime folder.
    public static var usualPath: String {
        if let path = getenv("CAIRN_KEEPER") { return String(cString: path) }
        if let folder = getenv("XDG_RUNTIME_DIR") { return String(cString: folder) + "/cairn/keeper.sock" }
        return "/tmp/cairn-\(geteuid())/keeper.sock"
    }

    public let distinction: Distinction? = Distinction()
    private let connection: KeeperConnection

    /// Connects to a keeper.
    ///
    /// - Parameters:
    ///   - job: Which of the user's jobs the objects are of: 1 to 128 bytes, without spaces and slashes.
    ///   - path: Where the keeper listens.
    ///   - timeout: How long a request waits at most. A keeper that reserves much memory for the first time needs seconds.
    /// - Throws: ``CairnError/Code/notFound`` when no keeper listens there, ``CairnError/Code/accessDenied`` for a keeper of
    ///   another user who keeps others out, ``CairnError/Code/inputOutput`` when it does not answer.
    public convenience init(
        job: String, at path: String = KeeperStorage.usualPath, timeout: Duration = .seconds(60)
    ) throws(CairnError) {
        try self.init(KeeperConnection(path: path, job: job, timeout: timeout))
    }

    /// What a keeper has of any user's job, for reading.
    package convenience init(
        observing job: String, of user: UInt32?, at path: String, timeout: Duration = .seconds(60)
    ) throws(CairnError) {
        try self.init(KeeperConnection(path: path, job: job, isObserver: true, user: user, timeout: timeout))
    }

    private init(_ connection: KeeperConnection) { self.connection = connection }

    /// Ends the connection as the end of the process would. For tests.
    package func abandon() { connection.abandon() }

    public var isLocal: Bool { true }

    public func location(of key: String) -> String { "keeper:\(connection.job)/\(key)" }

    public func open(_ key: String) throws(CairnError) -> any StorageFile {
        let (reply, file) = try connection.ask(.open(key: key))
        if case .openedElsewhere(let reader, let byteCount) = reply, byteCount >= 0 {
            return KeeperRemoteFile(key: key, reader: reader, byteCount: byteCount, connection: connection)
        }
        guard case .opened(let reader, let byteCount) = reply, let file else { throw connection.misunderstanding }
        return try KeeperFile(key: key, reader: reader, byteCount: byteCount, file: file, connection: connection)
    }

    public func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try StorageKey.validate(key)
        try StorageKey.validate(offset: 0, byteCount: byteCount ?? 0, of: key)
        return try KeeperWriter(key: key, byteCount: byteCount ?? 0, connection: connection)
    }

    public func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        let writer = try create(key, byteCount: bytes.count)
        try writer.write(bytes, at: 0)
        try writer.finish(byteCount: bytes.count)
    }

    public func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try StorageKey.validate(prefix: prefix)
        var entries: [StorageEntry] = []
        while true {
            let (reply, _) = try connection.ask(.list(prefix: prefix, after: entries.last?.key))
            guard case .listed(let more, let isComplete) = reply, isComplete || !more.isEmpty else {
                throw connection.misunderstanding
            }
            entries += more
            if isComplete { return entries }
        }
    }

    public func delete(_ keys: [String]) throws(CairnError) {
        for key in keys { try StorageKey.validate(key) }
        var rest = keys[...]
        while !rest.isEmpty {
            // Each fits a message, whatever is in the keys.
            var room = KeeperSocket.maximumMessageByteCount / 2
            let count = max(
                1,
                rest.prefix { key in
                    room -= 6 * key.utf8.count + 8; return room > 0
                }.count)
            _ = try connection.ask(.delete(keys: Array(rest.prefix(count))))
            rest = rest.dropFirst(count)
        }
    }
}

/// A connection of a storage to its keeper: one request at a time. It connects anew after a failure, to a keeper that was started
/// again.
final class KeeperConnection: Sendable {
    let path: String
    let job: String
    private let isObserver: Bool
    private let user: UInt32?
    private let timeout: Duration
    private let socket: Monitor<(socket: KeeperSocket?, generation: Int)>

    init(
        path: String, job: String, isObserver: Bool = false, user: UInt32? = nil, timeout: Duration
    ) throws(CairnError) {
        self.path = path
        self.job = job
        self.isObserver = isObserver
        self.user = user
        self.timeout = timeout
        socket = Monitor((nil, 0))
        try socket.change { state throws(CairnError) in state.socket = try connect() }
    }

    deinit { abandon() }

    func abandon() { socket.read(\.socket)?.shutDown() }

    /// Which connection numbers of writers and readers are of: those of an earlier one are nothing to a later one.
    var generation: Int { socket.read(\.generation) }

    /// Asks, and waits for the answer. A refusal is thrown as the error that it is.
    ///
    /// - Parameter generation: The connection that the request is about; `nil` for any.
    func ask(
        _ request: KeeperRequest, generation: Int? = nil
    ) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        let (reply, file) = try socket.change { state throws(CairnError) in
            if let generation, generation != state.generation || state.socket == nil {
                throw CairnError(
                    .inputOutput, "the connection to the keeper was lost",
                    .init(file: path, advice: "what was being written is gone; write it anew"))
            }
            do throws(CairnError) {
                let socket: KeeperSocket
                if let open = state.socket {
                    socket = open
                } else {
                    socket = try connect()
                    state.socket = socket
                    state.generation += 1
                }
                return try Self.exchange(request, over: socket)
            } catch {
                // An answer that comes later would be taken for that of the next request.
                state.socket?.shutDown()
                state.socket = nil
                throw error
            }
        }
        if case .failed(var error) = reply {
            error.message = "the keeper refuses: \(error.message)"
            throw error
        }
        return (reply, file)
    }

    /// Ends a writer or a reader; nobody minds if that fails.
    func tell(_ request: KeeperRequest, generation: Int) { _ = try? ask(request, generation: generation) }

    var misunderstanding: CairnError {
        CairnError(.malformed, "the keeper answers something else than it was asked", .init(file: path))
    }

    private func connect() throws(CairnError) -> KeeperSocket {
        let socket = try KeeperSocket(connectingTo: path, timeout: timeout)
        let peer = try socket.peer
        // Whoever listens there could read what is saved, and give back what it likes.
        guard peer.user == geteuid() || peer.user == 0 else {
            throw CairnError(
                .accessDenied, "another user listens there",
                .init(file: path, expected: "user \(geteuid()) or root", found: "user \(peer.user)"))
        }
        let hello = KeeperRequest.hello(
            version: KeeperRequest.version, job: job, isObserver: isObserver, user: user)
        let (reply, _) = try Self.exchange(hello, over: socket)
        switch reply {
        case .done: return socket
        case .failed(let error): throw error
        default: throw misunderstanding
        }
    }

    private static func exchange(
        _ request: KeeperRequest, over socket: KeeperSocket
    ) throws(CairnError) -> (KeeperReply, FileDescriptor?) {
        try socket.send(request.message)
        guard let received = try socket.receive() else {
            throw CairnError(
                .inputOutput, "the keeper has closed the connection",
                .init(file: socket.path, advice: "it was stopped, or it does not work for this user"))
        }
        return (try KeeperReply(received.message), received.file)
    }
}
