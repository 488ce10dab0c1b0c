import CairnTesting
import Foundation
import Testing

@Suite struct Interruption {
    @Test(arguments: [
        ["convert", "--to", "safetensors"], ["convert", "--to", "cairn"],
        ["reshard", "--mesh", "dp=3", "--layout", "fsdp"], ["average", "--to", "safetensors"],
    ])
    func anInterruptedWriteRemovesWhatItWrote(command: [String]) throws {
        let directory = try TemporaryDirectory()
        // A gigabyte that takes no room: the conversion is still running when the signal comes.
        let byteCount = 1 << 30
        var header = Array(#"{"x":{"dtype":"U8","shape":[1024,1048576],"data_offsets":[0,1073741824]}}"#.utf8)
        while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
        let length = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> ($0 * 8)) }
        let path = directory.path("big.safetensors")
        try Data(length + header).write(to: URL(fileURLWithPath: path))
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.truncate(atOffset: UInt64(8 + header.count + byteCount))
        try file.close()

        let output = directory.path("out/model.safetensors")
        let arguments =
            [command[0], path] + (command[0] == "average" ? [path, "--output", output] : [output])
            + Array(command.dropFirst())
        // A machine may be so busy that the write is over before the signal is sent: then it is tried again.
        for attempt in 1...20 {
            let process = Process()
            process.executableURL = ToolRun.executable
            process.arguments = arguments
            process.standardError = FileHandle.nullDevice
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            try waitUntil("a file of the output, or the end of the process") {
                try !process.isRunning || !files(below: directory.path("out")).isEmpty
            }
            process.interrupt()
            process.waitUntilExit()
            if process.terminationReason == .exit, process.terminationStatus == 0, attempt < 20 {
                try FileManager.default.removeItem(atPath: directory.path("out"))
                continue
            }
            #expect(process.terminationStatus == 130)
            #expect(try files(below: directory.path("out")).isEmpty)
            break
        }
    }

    private func files(below path: String) throws -> [String] {
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        return try FileManager.default.subpathsOfDirectory(atPath: path).filter { name in
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: path + "/" + name, isDirectory: &isDirectory)
                && !isDirectory.boolValue
        }
    }
}
