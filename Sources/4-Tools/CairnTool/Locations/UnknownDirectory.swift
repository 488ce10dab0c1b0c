import CairnBase
import CairnCheckpoint
import CairnStorage

/// The message for a directory that is not a checkpoint: what it is instead, or what in it is one.
enum UnknownDirectory {
    private static let greatestCount = 64

    static func error(_ path: String, _ names: [String], looksInside: Bool) throws(CairnError) -> CairnError {
        if let kind = foreign(names) {
            return CairnError(
                .unsupported, "the directory is not a checkpoint that Cairn reads",
                .init(file: path, found: kind.name, advice: kind.advice))
        }
        let inner = looksInside ? try checkpoints(in: path, names) : []
        if !inner.isEmpty {
            return CairnError(
                .unsupported, "the directory is not a checkpoint itself, but there are some in it",
                .init(
                    file: path, found: inner.prefix(8).joined(separator: ", ") + (inner.count > 8 ? ", …" : ""),
                    advice: "name the one to open"))
        }
        let seen = names.isEmpty ? "an empty directory" : names.prefix(4).joined(separator: ", ")
        return CairnError(
            .unsupported, "the directory is not a checkpoint that Cairn knows",
            .init(
                file: path,
                expected: "step-… directories, a .metadata, an index of .safetensors or .bin files, or such files",
                found: names.count > 4 ? seen + ", …" : seen))
    }

    /// Checkpoints of other software, by the names in them.
    private static func foreign(_ names: [String]) -> (name: String, advice: String?)? {
        let tensorFlow = "load it with TensorFlow or Keras and save it as .h5, .keras or .npz"
        switch true {
        case names.contains("saved_model.pb") || names.contains("saved_model.pbtxt"):
            return ("a TensorFlow SavedModel", tensorFlow)
        case names.contains("checkpoint") && names.contains(where: { $0.hasSuffix(".index") }),
            names.contains(where: { $0.contains(".data-") && $0.contains("-of-") }):
            return ("a TensorFlow checkpoint", tensorFlow)
        case names.contains("manifest.ocdbt"), names.contains("_CHECKPOINT_METADATA"), names.contains("_METADATA"):
            return ("a checkpoint of Orbax", "restore it with Orbax and save it as safetensors or .npz")
        case names.contains(".zarray"), names.contains("zarr.json"), names.contains(".zgroup"):
            return ("a Zarr store", "load it with zarr and save it as .npz")
        case names.contains(".snapshot_metadata"):
            return ("a snapshot of TorchSnapshot", "restore it with torchsnapshot and save it with torch.save")
        case names.contains("__model__"), names.contains("inference.pdiparams"): return ("a program of Paddle", nil)
        default: return nil
        }
    }

    /// What in the directory is a checkpoint, each with its format.
    private static func checkpoints(in path: String, _ names: [String]) throws(CairnError) -> [String] {
        var found: [String] = []
        let ends = CheckpointFormats.known.formats.filter { $0.kinds.contains(.file) }.flatMap(\.fileExtensions)
        for name in names.prefix(greatestCount) {
            let inner = PathInspection.join(path, name)
            let kind = try PathInspection.kind(of: inner)
            guard kind == .directory || kind == .file && ends.contains(where: name.hasSuffix) else { continue }
            guard let format = try? CheckpointFormats.recognise(inner, looksInside: false) else { continue }
            found.append("\(name) (\(format.format.name))")
        }
        return found
    }
}

/// What of a trainer's directory is not read with the model in it: the optimizer, the schedule, the state of generators.
enum LeftOutFiles {
    private static let ends = CheckpointFormats.known.formats.flatMap(\.fileExtensions) + [".msgpack", ".onnx", ".gguf"]

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
