import CZMQ
package import CairnBase

/// libzmq's contexts and sockets. A socket is one thread's at a time.
package enum ZeroMQ {
    /// `@unchecked Sendable`: libzmq's contexts may be used by several threads.
    package final class Context: @unchecked Sendable {
        fileprivate let pointer: UnsafeMutableRawPointer

        package init() throws(CairnError) {
            guard let pointer = zmq_ctx_new() else { throw ZeroMQ.failure("make a context", "") }
            self.pointer = pointer
        }

        deinit { zmq_ctx_term(pointer) }
    }

    package final class Socket {
        fileprivate let pointer: UnsafeMutableRawPointer
        private let context: Context

        package init(_ context: Context, _ kind: CInt) throws(CairnError) {
            guard let pointer = zmq_socket(context.pointer, kind) else { throw ZeroMQ.failure("make a socket", "") }
            self.pointer = pointer
            self.context = context
            // What is not sent when the keeper ends is not needed.
            try set(ZMQ_LINGER, 0)
        }

        deinit { zmq_close(pointer) }

        package func set(_ option: CInt, _ value: CInt) throws(CairnError) {
            var value = value
            guard zmq_setsockopt(pointer, option, &value, MemoryLayout<CInt>.size) == 0 else {
                throw ZeroMQ.failure("set option \(option)", "")
            }
        }

        package func set(_ option: CInt, wide value: Int64) throws(CairnError) {
            var value = value
            guard zmq_setsockopt(pointer, option, &value, MemoryLayout<Int64>.size) == 0 else {
                throw ZeroMQ.failure("set option \(option)", "")
            }
        }

        package func set(_ option: CInt, _ text: String) throws(CairnError) {
            guard
                text.utf8CString.withUnsafeBufferPointer({
                    zmq_setsockopt(pointer, option, $0.baseAddress, $0.count - 1)
                }) == 0
            else { throw ZeroMQ.failure("set option \(option)", "") }
        }

        /// Sets a key of 40 characters.
        package func set(_ option: CInt, key: String) throws(CairnError) {
            guard zmq_setsockopt(pointer, option, key, 41) == 0 else { throw ZeroMQ.failure("set a key", "") }
        }

        func bind(_ address: String) throws(CairnError) {
            guard zmq_bind(pointer, address) == 0 else { throw ZeroMQ.failure("listen", address) }
        }

        package func connect(_ address: String) throws(CairnError) {
            guard zmq_connect(pointer, address) == 0 else { throw ZeroMQ.failure("connect", address) }
        }

        /// Sends a message of several parts; false where there is no room for it, or nobody to send it to.
        package func send(_ parts: [[UInt8]]) -> Bool {
            for (index, part) in parts.enumerated() {
                let flags = ZMQ_DONTWAIT | (index + 1 < parts.count ? ZMQ_SNDMORE : 0)
                guard part.withUnsafeBytes({ zmq_send(pointer, $0.baseAddress, $0.count, flags) }) >= 0 else { return false }
            }
            return true
        }

        /// A part of a message, and what its connection says of who sent it.
        package struct Part {
            package var bytes: [UInt8]
            package var user: String?
        }

        /// The next message, if one is there.
        package func receive() -> [Part]? {
            var parts: [Part] = []
            while true {
                var message = zmq_msg_t()
                guard zmq_msg_init(&message) == 0 else { return nil }
                defer { zmq_msg_close(&message) }
                guard zmq_msg_recv(&message, pointer, ZMQ_DONTWAIT) >= 0 else { return nil }
                let count = zmq_msg_size(&message)
                let bytes = [UInt8](UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: count))
                let user = zmq_msg_gets(&message, "User-Id").map { String(cString: $0) }
                // Nobody who is let in sends messages of many parts; the rest of one is thrown away.
                if parts.count < 16 { parts.append(Part(bytes: bytes, user: user)) }
                if zmq_msg_more(&message) == 0 { return parts }
            }
        }
    }

    /// Waits until one of some sockets has a message.
    ///
    /// - Returns: Which of them have one.
    static func poll(_ sockets: [Socket], milliseconds: Int) -> [Bool] {
        var items = sockets.map { zmq_pollitem_t(socket: $0.pointer, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0) }
        guard zmq_poll(&items, CInt(items.count), milliseconds) > 0 else { return sockets.map { _ in false } }
        return items.map { $0.revents & Int16(ZMQ_POLLIN) != 0 }
    }

    static func failure(_ what: String, _ file: String) -> CairnError {
        CairnError(
            .inputOutput, "the network library could not \(what): \(String(cString: zmq_strerror(zmq_errno())))",
            .init(file: file.isEmpty ? nil : file))
    }
}
