import CairnBase
import CairnTesting
import Foundation

/// The built tool, run as a user runs it.
struct ToolRun {
    let exitCode: Int32
    let output: String
    let errors: String

    /// The executable lies where the test bundle does.
    static var executable: URL {
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }
        let directory = bundle?.bundleURL.deletingLastPathComponent() ?? Bundle.main.bundleURL
        return directory.appendingPathComponent("cairn")
    }

    /// Runs the tool to its end, with both streams into files.
    init(_ arguments: String..., in directory: TemporaryDirectory) throws {
        try self.init(arguments, in: directory)
    }

    /// Runs the tool to its end, with both streams into files.
    ///
    /// - Parameter memoryLimit: The most bytes of address space that it may have.
    init(_ arguments: [String], memoryLimit: Int? = nil, in directory: TemporaryDirectory) throws {
        let process = Process()
        process.executableURL = Self.executable
        process.arguments = arguments
        if let memoryLimit {
            // One arena, because every one reserves address space of its own.
            let script = "ulimit -v \(memoryLimit >> 10) && MALLOC_ARENA_MAX=1 exec \"$0\" \"$@\""
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", script, Self.executable.path] + arguments
        }
        process.currentDirectoryURL = directory.url
        let token = UUID().uuidString
        let outputFile = directory.url.appendingPathComponent(".output-" + token)
        let errorFile = directory.url.appendingPathComponent(".errors-" + token)
        for file in [outputFile, errorFile] { try Data().write(to: file) }
        process.standardOutput = try FileHandle(forWritingTo: outputFile)
        process.standardError = try FileHandle(forWritingTo: errorFile)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        exitCode = process.terminationStatus
        output = String(decoding: try Data(contentsOf: outputFile), as: UTF8.self)
        errors = String(decoding: try Data(contentsOf: errorFile), as: UTF8.self)
        for file in [outputFile, errorFile] { try FileManager.default.removeItem(at: file) }
    }

    /// The one JSON document on standard output.
    func document() throws -> JSONObject { try JSONValue(parsing: output).asObject() }

    /// Whether there is one line of error and nothing else.
    var failedInOneLine: Bool {
        exitCode == 2 && output.isEmpty && errors.hasPrefix("cairn: ") && errors.hasSuffix("\n")
            && errors.dropLast().allSatisfy { $0 != "\n" }
    }
}

extension TemporaryDirectory {
    var url: URL { URL(fileURLWithPath: path, isDirectory: true) }

    /// What is in it, sorted, hidden files left out.
    func names(_ name: String = "") throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path(name)).filter { !$0.hasPrefix(".") }.sorted()
    }
}
