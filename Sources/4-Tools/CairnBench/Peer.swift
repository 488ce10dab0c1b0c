import Cairn
import CairnProcesses

/// A Python that holds the same state and does what it is asked, timing itself.
final class PeerProcess {
    private let process: ChildProcess

    init(python: String, script: String, folder: String, megabytes: Int) throws {
        process = try ChildProcess(python, [script, folder, "\(megabytes)"], input: .pipe, output: .pipe)
    }

    /// Has one operation done; the answer is a line of seconds and bytes of extra memory.
    func ask(_ operation: String) throws -> (seconds: Double, memory: Int) {
        process.writeLine(operation)
        guard let line = process.readLine() else {
            throw CairnError(.inputOutput, "the Python process ended", .init(advice: "see Scripts/bench for what it needs"))
        }
        let fields = line.split(whereSeparator: \.isWhitespace)
        guard fields.count == 2, let seconds = Double(fields[0]), let memory = Int(fields[1]) else {
            throw CairnError(.malformed, "the Python process answered strangely", .init(found: line))
        }
        return (seconds, memory)
    }
}

/// What a program prints that runs once.
enum PeerOutput {
    /// The numbers on the last line of standard output; none when the program fails.
    static func numbers(of words: [String]) throws -> [Double] {
        let process = try ChildProcess(words[0], Array(words.dropFirst()), output: .pipe)
        var last = ""
        while let line = process.readLine() { last = line }
        guard process.wait() == .exited(0) else { return [] }
        return last.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
    }
}
