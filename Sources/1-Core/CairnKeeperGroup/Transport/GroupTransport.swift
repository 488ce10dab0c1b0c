import CZMQ
import CairnBase

/// The sockets of a member: one that listens, and one to each other member, all with CURVE. Only public keys of the group file
/// are let in, and a key speaks for its own member alone. One thread uses it.
final class GroupTransport {
    /// What has gone wrong, for the status.
    struct Trouble: Sendable {
        var refused = 0
        var malformed = 0
        var last = ""
    }

    private let file: GroupFile
    private let own: Int
    private let context: ZeroMQ.Context
    private let listener: ZeroMQ.Socket
    private var peers: [Int: ZeroMQ.Socket] = [:]
    private let authentication: ZeroMQ.Socket
    private let alarm: ZeroMQ.Socket
    private(set) var trouble = Trouble()
    /// The newest connection of each member to the socket that listens: where answers go.
    private var routes: [Int: [UInt8]] = [:]

    /// Wakes the thread that waits in ``wait(milliseconds:)``. Any one thread at a time may use it.
    final class Alarm {
        private let socket: ZeroMQ.Socket
        init(_ socket: ZeroMQ.Socket) { self.socket = socket }
        func ring() { _ = socket.send([[1]]) }
    }

    let bell: Alarm

    /// - Throws: What keeps the member from listening at its address.
    init(_ file: GroupFile, own: Int, key: CurveKey) throws(CairnError) {
        self.file = file
        self.own = own
        try CurveKey.require()
        let context = try ZeroMQ.Context()
        self.context = context
        // Before any socket that is to be authenticated.
        authentication = try ZeroMQ.Socket(context, ZMQ_REP)
        try authentication.bind("inproc://zeromq.zap.01")
        alarm = try ZeroMQ.Socket(context, ZMQ_PAIR)
        try alarm.bind("inproc://alarm")
        let bell = try ZeroMQ.Socket(context, ZMQ_PAIR)
        try bell.connect("inproc://alarm")
        self.bell = Alarm(bell)

        listener = try ZeroMQ.Socket(context, ZMQ_ROUTER)
        try Self.limit(listener)
        try listener.set(ZMQ_CURVE_SERVER, 1)
        try listener.set(ZMQ_CURVE_SECRETKEY, key: key.secretText)
        try listener.set(ZMQ_ZAP_DOMAIN, "cairn")
        try listener.bind(file.members[own].address)
        for (index, member) in file.members.enumerated() where index != own {
            let peer = try ZeroMQ.Socket(context, ZMQ_DEALER)
            try Self.limit(peer)
            try peer.set(ZMQ_CURVE_SERVERKEY, key: member.key)
            try peer.set(ZMQ_CURVE_PUBLICKEY, key: key.publicText)
            try peer.set(ZMQ_CURVE_SECRETKEY, key: key.secretText)
            try peer.set(ZMQ_IMMEDIATE, 1)
            try peer.set(ZMQ_RECONNECT_IVL, 100)
            try peer.set(ZMQ_RECONNECT_IVL_MAX, 1000)
            try peer.set(ZMQ_CONNECT_TIMEOUT, 2000)
            try peer.connect(member.address)
            peers[index] = peer
        }
    }

    /// Bounded queues, bounded messages, and dead connections that are noticed.
    private static func limit(_ socket: ZeroMQ.Socket) throws(CairnError) {
        try socket.set(ZMQ_SNDHWM, 128)
        try socket.set(ZMQ_RCVHWM, 128)
        try socket.set(ZMQ_MAXMSGSIZE, wide: Int64(GroupFrame.greatestByteCount))
        try socket.set(ZMQ_HEARTBEAT_IVL, 1000)
        try socket.set(ZMQ_HEARTBEAT_TIMEOUT, 5000)
        try socket.set(ZMQ_HANDSHAKE_IVL, 5000)
        try socket.set(ZMQ_TCP_KEEPALIVE, 1)
    }

    /// Sends a message to a member: requests over the socket to it, answers back over the one that listens. What finds no room is
    /// lost, as on the way.
    func send(_ outgoing: GroupMember.Outgoing) {
        guard let bytes = try? GroupFrame(group: file.number, number: outgoing.number, message: outgoing.message).encoded else {
            return
        }
        if outgoing.message.isAnswer {
            if let route = routes[outgoing.peer] { _ = listener.send([route, bytes]) }
        } else {
            _ = peers[outgoing.peer]?.send([bytes])
        }
    }

    /// Waits for messages, and takes those that are there.
    func wait(milliseconds: Int) -> [(peer: Int, frame: GroupFrame)] {
        let order = peers.keys.sorted()
        let sockets = [authentication, alarm, listener] + order.compactMap { peers[$0] }
        let ready = ZeroMQ.poll(sockets, milliseconds: milliseconds)
        if ready[0] { authenticate() }
        if ready[1] { while alarm.receive() != nil {} }
        var frames: [(peer: Int, frame: GroupFrame)] = []
        // A few of each, so that nobody keeps the others waiting.
        for _ in 0..<16 where ready[2] {
            guard let parts = listener.receive() else { break }
            take(parts, into: &frames)
        }
        for (index, peer) in order.enumerated() where ready[3 + index] {
            for _ in 0..<16 {
                guard let parts = peers[peer]?.receive() else { break }
                guard parts.count == 1 else {
                    noteMalformed(peer, "a message of \(parts.count) parts")
                    continue
                }
                parse(parts[0].bytes, from: peer, into: &frames)
            }
        }
        return frames
    }

    /// A message that came to the socket that listens. Who sent it is what its key says, whatever it calls itself.
    private func take(_ parts: [ZeroMQ.Socket.Part], into frames: inout [(peer: Int, frame: GroupFrame)]) {
        guard let frame = parts.last, let user = frame.user, let peer = file.members.firstIndex(where: { $0.name == user }),
            peer != own
        else {
            trouble.malformed += 1
            trouble.last = "a message of nobody"
            return
        }
        guard parts.count == 2 else { return noteMalformed(peer, "a message of \(parts.count - 1) parts") }
        routes[peer] = parts[0].bytes
        parse(frame.bytes, from: peer, into: &frames)
    }

    private func parse(_ bytes: [UInt8], from peer: Int, into frames: inout [(peer: Int, frame: GroupFrame)]) {
        do throws(CairnError) {
            frames.append((peer, try GroupFrame(parsing: bytes, of: file.number)))
        } catch {
            noteMalformed(peer, "\(error)")
        }
    }

    private func noteMalformed(_ peer: Int, _ what: String) {
        trouble.malformed += 1
        trouble.last = "\(file.members[peer].name): \(what)"
    }

    /// Answers libzmq's questions whether a key may connect (ZAP, https://rfc.zeromq.org/spec/27).
    private func authenticate() {
        while let parts = authentication.receive() {
            // version, request, domain, address, identity, mechanism, key
            guard parts.count >= 6 else {
                _ = authentication.send([Array("1.0".utf8), parts.dropFirst().first?.bytes ?? [], Array("500".utf8), [], [], []])
                continue
            }
            let address = String(decoding: parts[3].bytes, as: UTF8.self)
            let mechanism = String(decoding: parts[5].bytes, as: UTF8.self)
            let key = parts.count == 7 && mechanism == "CURVE" ? CurveKey.text(ofBytes: parts[6].bytes) : nil
            let member = file.members.firstIndex { $0.key == key }
            let status = member == nil || member == own ? "400" : "200"
            if status == "400" {
                trouble.refused += 1
                trouble.last = "\(address): a key that is not of the group"
            }
            _ = authentication.send([
                Array("1.0".utf8), parts[1].bytes, Array(status.utf8), [],
                Array((member.map { file.members[$0].name } ?? "").utf8),
                [],
            ])
        }
    }
}
