import CCairnSystem
package import CairnBase
package import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// One end of a connection between a keeper and a process: messages of bytes, of which each may bring an open file.
package final class KeeperSocket: Sendable {
    /// No message is longer.
    package static let maximumMessageByteCount = 64 << 10

    /// Who is at the other end, as the system knows it.
    package struct Peer: Sendable, Hashable {
        package var user: UInt32
        package var process: Int32

        package init(user: UInt32, process: Int32) {
            self.user = user
            self.process = process
        }
    }

    package let path: String
    private let descriptor: FileDescriptor

    private init(path: String, adopting number: Int32) {
        self.path = path
        descriptor = FileDescriptor(PosixFileSystem(), adopting: number)
    }

    /// Connects to the keeper that listens at a path.
    package convenience init(connectingTo path: String, timeout: Duration) throws(CairnError) {
        let number = cairn_connect(path)
        guard number >= 0 else {
            throw SystemCallError(errno, "connect").explained("connect to the keeper", path).adding(
                .init(advice: "start one there with `cairn keep`, or give the path at which one listens"))
        }
        self.init(path: path, adopting: number)
        try setTimeout(timeout)
    }

    /// Listens at a path.
    ///
    /// - Parameter mode: The file's rights: who may connect.
    package convenience init(listeningAt path: String, mode: UInt32) throws(CairnError) {
        var number = cairn_listen(path, mode)
        if number < 0, errno == EADDRINUSE {
            // What a keeper that was killed left there is in the way, but not one that lives.
            let other = cairn_connect(path)
            if other >= 0 {
                close(other)
                throw CairnError(
                    .alreadyExists, "a keeper listens there already",
                    .init(file: path, advice: "use it, stop it, or give another path"))
            }
            guard errno == ECONNREFUSED else {
                throw SystemCallError(errno, "connect").explained("look who listens", path)
            }
            unlink(path)
            number = cairn_listen(path, mode)
        }
        guard number >= 0 else { throw SystemCallError(errno, "bind").explained("listen", path) }
        self.init(path: path, adopting: number)
    }

    /// Waits for the next connection of a listening socket; `nil` once ``shutDown()`` was called.
    package func accept() throws(CairnError) -> KeeperSocket? {
        let number = cairn_accept(descriptor.number)
        if number >= 0 { return KeeperSocket(path: path, adopting: number) }
        if errno == EINVAL { return nil }
        throw SystemCallError(errno, "accept").explained("accept a connection", path)
    }

    package func setTimeout(_ duration: Duration) throws(CairnError) {
        let parts = duration.components
        let milliseconds = parts.seconds * 1000 + parts.attoseconds / 1_000_000_000_000_000
        guard cairn_set_timeout(descriptor.number, Int32(clamping: milliseconds)) == 0 else {
            throw SystemCallError(errno, "setsockopt").explained("set the timeout of the connection", path)
        }
    }

    package var peer: Peer {
        get throws(CairnError) {
            var peer = Peer(user: 0, process: 0)
            guard cairn_peer(descriptor.number, &peer.user, &peer.process) == 0 else {
                throw SystemCallError(errno, "getsockopt").explained("learn who connects", path)
            }
            return peer
        }
    }

    /// Sends a message, with an open file if one is given.
    package func send(_ message: [UInt8], passing file: FileDescriptor? = nil) throws(CairnError) {
        guard message.count <= Self.maximumMessageByteCount else {
            throw CairnError(
                .invalidArgument, "the message is too long",
                .init(
                    file: path, expected: "at most \(Self.maximumMessageByteCount) bytes", found: "\(message.count)"))
        }
        let result = message.withUnsafeBytes { bytes in
            cairn_send_message(descriptor.number, bytes.baseAddress, bytes.count, file?.number ?? -1)
        }
        guard result == 0 else { throw failure("send") }
    }

    /// Receives a message, with the open file that came with it; `nil` when the other end has closed the connection.
    package func receive() throws(CairnError) -> (message: [UInt8], file: FileDescriptor?)? {
        var passed: Int32 = -1
        var count = 0
        let message = [UInt8](unsafeUninitializedCapacity: Self.maximumMessageByteCount) { buffer, initialized in
            count = cairn_receive_message(descriptor.number, buffer.baseAddress, buffer.count, &passed)
            initialized = max(count, 0)
        }
        guard count >= 0 else { throw failure("recvmsg") }
        if count == 0 { return nil }
        return (message, passed < 0 ? nil : FileDescriptor(PosixFileSystem(), adopting: passed))
    }

    /// Ends all calls that wait, and the connection.
    package func shutDown() { shutdown(descriptor.number, Int32(SHUT_RDWR)) }

    private func failure(_ call: String) -> CairnError {
        switch errno {
        case EAGAIN:
            CairnError(
                .inputOutput, "the other end does not answer", .init(file: path, advice: "look whether it is stopped"))
        case EPIPE, ECONNRESET:
            CairnError(.inputOutput, "the other end has closed the connection", .init(file: path))
        default: SystemCallError(errno, call).explained("talk to the other end", path)
        }
    }
}
