import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A child process whose output is read line by line.
struct ChildProcess {
    /// How it ended.
    enum End: Equatable {
        case exited(Int32)
        case killed(Int32)
    }

    /// Runs this program with `arguments`; kills it with SIGKILL as soon as `killWhen` says so of a line.
    static func run(
        _ arguments: [String], _ line: (String) -> Void, killWhen: (String) -> Bool = { _ in false }
    ) throws(CairnError) -> End {
        var descriptors: [Int32] = [-1, -1]
        guard pipe(&descriptors) == 0 else { throw CairnError(.inputOutput, "no pipe for a child process") }
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, descriptors[1], 1)
        posix_spawn_file_actions_addclose(&actions, descriptors[0])
        posix_spawn_file_actions_addclose(&actions, descriptors[1])
        let program = CommandLine.arguments.first ?? "cairn-train"
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier = pid_t()
        let result = posix_spawnp(&identifier, program, &actions, nil, words, environ)
        close(descriptors[1])
        defer { close(descriptors[0]) }
        guard result == 0 else {
            throw CairnError(.inputOutput, "the child process does not start", .init(file: program, found: "error \(result)"))
        }
        var pending: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptors[0], &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            pending += buffer[..<count]
            while let end = pending.firstIndex(of: 10) {
                let text = String(decoding: pending[..<end], as: UTF8.self)
                pending.removeSubrange(...end)
                line(text)
                if killWhen(text) { kill(identifier, SIGKILL) }
            }
        }
        var status: Int32 = 0
        while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
        return status & 0x7F == 0 ? .exited((status >> 8) & 0xFF) : .killed(status & 0x7F)
    }
}
