package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A program that runs beside this one.
package final class ChildProcess {
    /// How it ended.
    package enum End: Sendable, Equatable {
        case exited(Int32)
        /// A signal ended it.
        case killed(Int32)
    }

    /// Where its standard input comes from, and where its standard output goes.
    package enum Stream {
        /// As this program's.
        case inherited
        /// Nothing is read or kept.
        case none
        /// From ``writeLine(_:)``, to ``readLine()``.
        case pipe
    }

    private let identifier: pid_t
    private var input: Int32?
    private var output: Int32?
    /// What has been read of a line that has not ended.
    private var pending: [UInt8] = []
    private var end: End?

    /// Starts a program, which is looked for as a shell does.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when it does not start.
    package init(
        _ program: String, _ arguments: [String], input: Stream = .inherited, output: Stream = .inherited
    ) throws(CairnError) {
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let toChild = input == .pipe ? try Pipe() : nil
        defer { toChild?.closeReading() }
        let fromChild = output == .pipe ? try Pipe() : nil
        defer { fromChild?.closeWriting() }
        if let toChild { posix_spawn_file_actions_adddup2(&actions, toChild.reading, 0) }
        if let fromChild { posix_spawn_file_actions_adddup2(&actions, fromChild.writing, 1) }
        if input == .none { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
        if output == .none { posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) }
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { (word: String) in strdup(word) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier = pid_t()
        let result = posix_spawnp(&identifier, program, &actions, nil, words, environ)
        self.identifier = identifier
        self.input = toChild?.writing
        self.output = fromChild?.reading
        guard result == 0 else {
            end = .exited(127)
            throw CairnError(.notFound, "the program does not start", .init(file: program, found: "error \(result)"))
        }
    }

    /// Closes its input and output, so that it cannot wait for either, and waits for its end.
    deinit {
        if let output { close(output) }
        _ = wait()
    }

    /// Writes a line to its input; what it does not take is lost.
    package func writeLine(_ text: String) {
        guard let input else { return }
        var bytes = Array((text + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }

    /// The next line of its output, without the line feed; `nil` when there are no more.
    package func readLine() -> String? {
        guard let output else { return nil }
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                defer { pending.removeSubrange(...end) }
                return String(decoding: pending[..<end], as: UTF8.self)
            }
            let count = read(output, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                defer { pending = [] }
                return pending.isEmpty ? nil : String(decoding: pending, as: UTF8.self)
            }
            pending += buffer[..<count]
        }
    }

    /// Whether it has ended. One that was not waited for still has its identifier.
    package var hasEnded: Bool {
        guard end == nil else { return true }
        var info = siginfo_t()
        return waitid(P_PID, id_t(identifier), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == SIGCHLD
    }

    /// Sends it a signal; `false` when it has ended already.
    @discardableResult
    package func send(_ signal: Int32) -> Bool { !hasEnded && kill(identifier, signal) == 0 }

    /// Closes its input and waits for its end.
    package func wait() -> End {
        if let input { close(input) }
        input = nil
        if let end { return end }
        var status: Int32 = 0
        while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
        let end: End = status & 0x7F == 0 ? .exited((status >> 8) & 0xFF) : .killed(status & 0x7F)
        self.end = end
        return end
    }
}

/// Two connected descriptors that other programs do not inherit.
private struct Pipe {
    let reading: Int32
    let writing: Int32

    init() throws(CairnError) {
        var descriptors: [Int32] = [-1, -1]
        guard pipe(&descriptors) == 0 else { throw CairnError(.inputOutput, "no pipe for another program") }
        for descriptor in descriptors { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        (reading, writing) = (descriptors[0], descriptors[1])
    }

    func closeReading() { close(reading) }

    func closeWriting() { close(writing) }
}
