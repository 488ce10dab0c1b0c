import Cairn
import CairnProcesses
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite struct ChildProcessTests {
    @Test func linesGoInAndComeOut() throws {
        let echo = try ChildProcess("cat", [], input: .pipe, output: .pipe)
        for line in ["first", "", "größe"] {
            echo.writeLine(line)
            #expect(echo.readLine() == line)
        }
        #expect(!echo.hasEnded)
        #expect(echo.wait() == .exited(0))
        #expect(echo.readLine() == nil && echo.hasEnded && !echo.send(SIGTERM))
        #expect(echo.wait() == .exited(0), "asked again")
    }

    @Test func theLastLineNeedsNoLineFeed() throws {
        let process = try ChildProcess("/bin/sh", ["-c", "printf 'a\\nb'; exit 7"], output: .pipe)
        #expect([process.readLine(), process.readLine(), process.readLine()] == ["a", "b", nil])
        #expect(process.wait() == .exited(7))
    }

    @Test func aSignalEndsIt() throws {
        let process = try ChildProcess("cat", [], input: .pipe, output: .none)
        #expect(process.send(SIGKILL))
        #expect(process.wait() == .killed(SIGKILL))
    }

    @Test func aProgramThatIsNotThereIsNamed() {
        let error = #expect(throws: CairnError.self) { try ChildProcess("/nowhere/program", [], input: .pipe, output: .pipe) }
        #expect(error?.code == .notFound && error?.context.file == "/nowhere/program")
    }

    /// What one child inherits must not keep another one's input open.
    @Test func closingTheInputEndsItWhileOthersRun() throws {
        let first = try ChildProcess("cat", [], input: .pipe, output: .pipe)
        let second = try ChildProcess("cat", [], input: .pipe, output: .pipe)
        #expect(first.wait() == .exited(0))
        #expect(second.wait() == .exited(0))
    }
}
