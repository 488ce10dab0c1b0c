import CairnBase
import CairnStorage

/// What of a trainer's directory is not read with the model in it: the optimizer, the schedule, the state of generators.
enum LeftOutFiles {
    private static let ends = [
        ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz", ".npy", ".safetensors", ".distcp",
        ".onnx", ".gguf",
    ]

    /// - Parameter files: The names of what is read.
    /// - Returns: A sentence, or nothing where all is read or the path is not a directory.
    static func note(beside files: [String], in path: String) throws(CairnError) -> [String] {
        guard try PathInspection.kind(of: path) == .directory else { return [] }
        let read = Set(files)
        let others = try PathInspection.names(in: path).filter { name in
            !read.contains(name) && ends.contains(where: name.hasSuffix)
        }
        guard !others.isEmpty else { return [] }
        let shown = others.prefix(8).joined(separator: ", ") + (others.count > 8 ? ", …" : "")
        return ["of the directory the model is read; left out: \(shown)"]
    }
}
