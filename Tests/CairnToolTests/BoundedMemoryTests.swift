import CairnTesting
import Foundation
import Testing

/// Checkpoints larger than the memory there is.
@Suite struct BoundedMemoryTests {
    /// A safetensors file that takes no room on the disk: two tensors of zeros.
    private static func makeSource(byteCount: Int, at url: URL) throws {
        let half = byteCount / 2
        let header = """
            {"a":{"dtype":"F32","shape":[\(half / 4)],"data_offsets":[0,\(half)]},\
            "b":{"dtype":"F32","shape":[1024,\(half / 4096)],"data_offsets":[\(half),\(2 * half)]}}
            """
        var bytes = Data()
        withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: header.utf8)
        try bytes.write(to: url)
        let file = try FileHandle(forWritingTo: url)
        try file.truncate(atOffset: UInt64(bytes.count + 2 * half))
        try file.close()
    }

    #if os(Linux)
    @Test(arguments: ["torch", "dcp", "hdf5"])
    func aConversionNeedsLessMemoryThanTheCheckpointHas(format: String) throws {
        let directory = try TemporaryDirectory()
        let byteCount = 768 << 20
        try Self.makeSource(byteCount: byteCount, at: directory.url.appendingPathComponent("source.safetensors"))
        // Address space, not only what is used of it; the program and its libraries take half of that.
        let run = try ToolRun(
            ["convert", "source.safetensors", "result", "--to", format], memoryLimit: 512 << 20, in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let inspection = try ToolRun("inspect", "result", "--json", in: directory)
        #expect(inspection.exitCode == 0, "\(inspection.errors)")
    }

    @Test(arguments: ["linear", "ties", "dare_ties"])
    func aMergeOfManyNeedsLittleMoreMemoryThanOneOfFew(method: String) throws {
        let directory = try TemporaryDirectory()
        for index in 0...24 {
            try Self.makeSource(byteCount: 32 << 20, at: directory.url.appendingPathComponent("m\(index).safetensors"))
        }
        let models = (1...24).map { "{model: m\($0).safetensors, parameters: {weight: 1, density: 0.5}}" }
        let recipe = """
            merge_method: \(method)
            \(method == "linear" ? "" : "base_model: m0.safetensors")
            models: [\(models.joined(separator: ", "))]
            dtype: float32
            """
        try Data(recipe.utf8).write(to: directory.url.appendingPathComponent("recipe.yml"))
        // Less than the inputs have.
        let run = try ToolRun(
            ["merge", "recipe.yml", "-o", "merged.safetensors"], memoryLimit: 512 << 20, in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
    }
    #endif
}
