package import CairnBase
public import CairnCheckpoint
import CairnStorage

extension CheckpointFormat {
    /// PyTorch's `torch.save`: a file, an index of several, or the directory of a model.
    public static let torch = {
        var format = CheckpointFormat(
            name: "torch", title: "torch.save", kinds: [.file, .directory], recognise: TorchFormat.claim,
            open: { path, options in
                let reader = try TorchReader(path: path, part: options.part, reading: options.reading)
                return Opening(reader, files: try PathInspection.kind(of: path) == .directory ? reader.files : nil)
            })
        format.fileExtensions = [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"]
        format.hasParts = true
        format.withoutChecksums = "files of before PyTorch 1.6, bare pickles, and archives that leave them out have none"
        format.targets = [
            CheckpointTarget(
                name: "torch", summary: "a file for torch.load", place: .file,
                writer: { try TorchWriter(path: $0, replaces: $1.replaces) })
        ]
        return format
    }()
}

private enum TorchFormat {
    static func claim(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        if contents.kind == .directory {
            // Models are published in several formats side by side: this one comes last.
            return try TorchDirectory(contents.names()) == nil ? nil : .init(contents.path, .kind)
        }
        if try isIndex(contents) { return .init(contents.path) }
        if let names = try contents.zipNames() {
            let isSave = names.contains { $0 == "data.pkl" || $0.hasSuffix("/data.pkl") }
            return .init(contents.path, isSave ? .mark : .kind, instead: isSave ? ["numpy"] : [])
        }
        let beginning = try contents.beginning()
        guard TorchContainer.isTorch(beginning), !TorchContainer.isJoblib(beginning) else { return nil }
        // A pickle may begin with almost anything, as with the length of a safetensors header.
        return .init(contents.path, .kind)
    }

    /// Whether a file is an index of several: its own name, or theirs, says so.
    private static func isIndex(_ contents: PathContents) throws(CairnError) -> Bool {
        guard contents.name.hasSuffix(".index.json") else { return false }
        if TorchDirectory.isIndex(contents.name) { return true }
        let beginning = try PathInspection.beginning(of: contents.path, byteCount: 1 << 16)
        return [".bin\"", ".pt\"", ".pth\""].contains { beginning.firstRange(of: Array($0.utf8)) != nil }
    }
}

extension PathContents {
    /// The names in the zip archive that a file is; `nil` when it is none.
    package func zipNames() throws(CairnError) -> [String]? {
        guard kind == .file, try begins(with: [0x50, 0x4B, 3, 4]) else { return nil }
        return try remember("zip") { () throws(CairnError) in
            do throws(CairnError) {
                return try ZipArchive.names(atBeginningOf: file())
            } catch {
                var located = error
                located.context.file = path
                throw located
            }
        }
    }
}
