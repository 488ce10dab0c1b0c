import CairnBase
public import CairnCheckpoint

extension CheckpointFormat {
    /// NumPy: a `.npz` archive, or the one array of a `.npy` file.
    public static let numpy = {
        var format = CheckpointFormat(
            name: "numpy", title: "NumPy", kinds: [.file],
            recognise: { contents throws(CairnError) in
                // An archive without anything in it is what NumPy writes of no arrays.
                if let names = try contents.zipNames() {
                    return names.isEmpty || names.contains { $0.hasSuffix(".npy") } ? Claim(contents.path) : nil
                }
                return try contents.begins(with: [0x93] + Array("NUMPY".utf8)) ? Claim(contents.path) : nil
            },
            open: { path, options in Opening(try NumPyReader(path: path, reading: options.reading)) })
        format.fileExtensions = [".npz", ".npy"]
        format.withoutChecksums = "the file has none, or its archive leaves them out"
        format.targets = [
            CheckpointTarget(
                name: "npz", summary: "a file for np.load", place: .file,
                writer: { try NumPyWriter(path: $0, replaces: $1.replaces) }),
            CheckpointTarget(
                name: "npy", summary: "a file with room for one tensor", place: .file,
                writer: { try NumPyArrayWriter(path: $0, replaces: $1.replaces) }),
        ]
        return format
    }()
}
