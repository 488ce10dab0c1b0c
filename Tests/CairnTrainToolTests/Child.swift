import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A `cairn-train` process whose output goes nowhere.
struct Child {
    private let identifier: pid_t

    /// The tool is built beside the tests.
    init(_ arguments: [String]) throws {
        let folder = CommandLine.arguments[0].split(separator: "/", omittingEmptySubsequences: false).dropLast()
        let program = folder.joined(separator: "/") + "/cairn-train"
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        var identifier = pid_t()
        let result = posix_spawn(&identifier, program, &actions, nil, words, environ)
        guard result == 0 else { throw CairnError(.notFound, "cairn-train does not start", .init(file: program)) }
        self.identifier = identifier
    }

    /// Whether the process has ended. One that was not waited for still has its identifier.
    var hasEnded: Bool {
        var info = siginfo_t()
        return waitid(P_PID, id_t(identifier), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == SIGCHLD
    }

    /// Sends SIGKILL; `false` when the process has ended already.
    func kill() -> Bool { !hasEnded && send(SIGKILL) }

    /// Asks the process to end.
    func terminate() -> Bool { send(SIGTERM) }

    private func send(_ signal: Int32) -> Bool {
        #if canImport(Darwin)
        Darwin.kill(identifier, signal) == 0
        #else
        Glibc.kill(identifier, signal) == 0
        #endif
    }

    /// The exit code, or the negative signal that ended the process.
    func wait() -> Int32 {
        var status: Int32 = 0
        while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
        return status & 0x7F == 0 ? (status >> 8) & 0xFF : -(status & 0x7F)
    }
}
