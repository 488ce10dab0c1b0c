import CairnProcesses

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A `cairn-train` process whose output goes nowhere.
struct Child {
    private let process: ChildProcess

    /// The tool is built beside the tests.
    init(_ arguments: [String]) throws {
        let folder = CommandLine.arguments[0].split(separator: "/", omittingEmptySubsequences: false).dropLast()
        process = try ChildProcess(folder.joined(separator: "/") + "/cairn-train", arguments, output: .none)
    }

    var hasEnded: Bool { process.hasEnded }

    /// Sends SIGKILL; `false` when the process has ended already.
    func kill() -> Bool { process.send(SIGKILL) }

    /// Asks the process to end; `false` when it has ended already.
    func terminate() -> Bool { process.send(SIGTERM) }

    /// The exit code, or the negative signal that ended the process.
    func wait() -> Int32 {
        switch process.wait() {
        case .exited(let code): code
        case .killed(let signal): -signal
        }
    }
}
