import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A Python that holds the same state and does what it is asked, timing itself.
final class PeerProcess {
    private let input: UnsafeMutablePointer<FILE>
    private let output: UnsafeMutablePointer<FILE>
    private let identifier: pid_t

    init(python: String, script: String, folder: String, megabytes: Int) throws {
        var (toChild, fromChild): ([Int32], [Int32]) = ([-1, -1], [-1, -1])
        guard pipe(&toChild) == 0, pipe(&fromChild) == 0 else { throw CairnError(.inputOutput, "no pipe") }
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
        posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
        for descriptor in [toChild[1], fromChild[0]] { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var words: [UnsafeMutablePointer<CChar>?] = [python, script, folder, "\(megabytes)"].map { (word: String) in strdup(word)
        }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier = pid_t()
        let result = posix_spawnp(&identifier, python, &actions, nil, words, environ)
        close(toChild[0])
        close(fromChild[1])
        guard result == 0, let input = fdopen(toChild[1], "w"), let output = fdopen(fromChild[0], "r") else {
            throw CairnError(.notFound, "the Python does not start", .init(file: python))
        }
        self.identifier = identifier
        self.input = input
        self.output = output
    }

    deinit {
        fclose(input)
        fclose(output)
        var status: Int32 = 0
        waitpid(identifier, &status, 0)
    }

    /// Has one operation done; the answer is a line of seconds and bytes of extra memory.
    func ask(_ operation: String) throws -> (seconds: Double, memory: Int) {
        fputs(operation + "\n", input)
        fflush(input)
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        guard getline(&line, &capacity, output) > 0, let line else {
            throw CairnError(.inputOutput, "the Python process ended", .init(advice: "see Scripts/bench for what it needs"))
        }
        let fields = String(cString: line).split(whereSeparator: \.isWhitespace)
        guard fields.count == 2, let seconds = Double(fields[0]), let memory = Int(fields[1]) else {
            throw CairnError(.malformed, "the Python process answered strangely", .init(found: String(cString: line)))
        }
        return (seconds, memory)
    }
}

/// What a program prints that runs once.
enum PeerOutput {
    /// The numbers on the last line of standard output; none when the program fails.
    static func numbers(of words: [String]) throws -> [Double] {
        var descriptors: [Int32] = [-1, -1]
        guard pipe(&descriptors) == 0 else { throw CairnError(.inputOutput, "no pipe") }
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, descriptors[1], 1)
        for descriptor in descriptors { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { (word: String) in strdup(word) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var identifier = pid_t()
        let result = posix_spawnp(&identifier, words[0], &actions, nil, arguments, environ)
        close(descriptors[1])
        guard result == 0, let output = fdopen(descriptors[0], "r") else {
            throw CairnError(.notFound, "the program does not start", .init(file: words[0]))
        }
        defer { fclose(output) }
        var last = ""
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, output) > 0, let line { last = String(cString: line) }
        var status: Int32 = 0
        while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { return [] }
        return last.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
    }
}
