package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Where the sources and fixtures are that a test was built from.
package enum Repository {
    /// The folder that holds Package.swift.
    package static let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(4)
        .joined(separator: "/")

    /// The path of a fixture, such as `cairn/v1`.
    package static func fixture(_ name: String) -> String { "\(root)/Fixtures/\(name)" }
}

/// A folder of its own for a test, removed with all that is in it when the owner goes.
package final class TemporaryDirectory: Sendable {
    /// Where it is.
    package let path: String

    /// - Throws: ``CairnError/Code/inputOutput`` when there can be none.
    package init() throws(CairnError) {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/cairn-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw CairnError(.inputOutput, "there is no room for a temporary folder", .init(file: parent))
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    /// The absolute path of a name in it.
    package func path(_ name: String) -> String { path + "/" + name }

    private static func remove(_ path: String) {
        var status = stat()
        // A link is removed, not followed.
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            unlink(path)
            return
        }
        // Some tests take the right to look into a folder away.
        chmod(path, S_IRWXU)
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                    tuple.withMemoryRebound(to: CChar.self, capacity: 1) { String(cString: $0) }
                }
                if name != ".", name != ".." { remove(path + "/" + name) }
            }
            closedir(stream)
        }
        rmdir(path)
    }
}

/// Random numbers that a seed determines. A failure that names the seed can be run again.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var generator: SplitMix64

    package init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }
}

/// The error that something throws; `nil` if it throws none, or one that is not of this package.
package func refusal(_ body: () throws -> Void) -> CairnError? {
    do {
        try body()
        return nil
    } catch {
        return error as? CairnError
    }
}

/// Waits for an event of another thread or process, looking again and again. The limit is for what will never come: no
/// machine is so slow that a test which waits fails for it.
///
/// - Throws: ``CairnError/Code/incomplete``, which names the event, when it has not come within the limit.
package func waitUntil(
    _ event: String, within limit: Duration = .seconds(600), _ hasCome: () throws -> Bool
) throws {
    let end = ContinuousClock.now + limit
    while try !hasCome() {
        guard ContinuousClock.now < end else {
            throw CairnError(.incomplete, "the test waited in vain", .init(expected: event, found: "nothing within \(limit)"))
        }
        usleep(2_000)
    }
}

/// How much memory this process has had at once. Only a process of a test's own says something by it.
package enum PeakMemory {
    /// The greatest resident size so far, in bytes.
    package static var byteCount: Int {
        var usage = rusage()
        #if canImport(Glibc)
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss) * 1024
        #else
        guard getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss)
        #endif
    }

    /// Runs something and ends the process when the peak grew by more than `limit` bytes.
    package static func requireGrowth(below limit: Int, _ body: () throws -> Void) rethrows {
        let before = byteCount
        try body()
        let growth = byteCount - before
        precondition(growth < limit, "\(growth >> 20) MiB more instead of at most \(limit >> 20)")
    }
}
