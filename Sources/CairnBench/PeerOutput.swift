import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
