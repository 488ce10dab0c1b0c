import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage

/// An adapter as PEFT saves it, a directory with its configuration and its matrices; or as trainers of image models do, a
/// file whose modules have their scales beside them.
enum AdapterFiles {
    private static let configurationName = "adapter_config.json"
    private static let matrixNames = ["adapter_model.safetensors", "adapter_model.bin"]

    static func open(_ path: String) throws -> (adapter: LowRankAdapter, source: MergeSource) {
        guard try PathInspection.kind(of: path) == .directory else { return try openFile(path) }
        let configurationPath = PathInspection.join(path, configurationName)
        guard try PathInspection.kind(of: configurationPath) == .file else {
            throw CairnError(
                .unsupported, "this is not an adapter",
                .init(
                    file: path, expected: "a directory with \(configurationName)",
                    advice: "the scale of its matrices is in that file, which PEFT writes beside them"))
        }
        let bytes = try LocalStorage(root: path).readAll(configurationName, limit: 4 << 20)
        let configuration = try LowRankAdapter.Configuration(
            json: String(decoding: bytes, as: UTF8.self), file: configurationPath)
        for name in matrixNames {
            let file = PathInspection.join(path, name)
            guard try PathInspection.kind(of: file) == .file else { continue }
            let source = try MergeSource(file)
            return (LowRankAdapter(source.input, configuration: configuration), source)
        }
        throw CairnError(
            .notFound, "the adapter has no matrices",
            .init(file: path, expected: matrixNames.joined(separator: " or ")))
    }

    /// A file alone: with names that say how it is merged.
    private static func openFile(_ path: String) throws -> (adapter: LowRankAdapter, source: MergeSource) {
        let source = try MergeSource(path)
        guard source.input.reader.tensors.contains(where: { $0.name.hasSuffix(".lora_down.weight") }) else {
            throw CairnError(
                .unsupported, "this is not an adapter",
                .init(
                    file: path, expected: "a directory with \(configurationName), or a file of lora_down, lora_up and alpha",
                    advice: "name the directory that PEFT saved"))
        }
        return (LowRankAdapter(source.input, configuration: .init(alpha: nil)), source)
    }

    /// Whether the configuration of a model in a directory ties its output layer to its embedding.
    static func isTied(modelAt path: String) throws -> Bool {
        guard try PathInspection.kind(of: path) == .directory,
            try PathInspection.kind(of: PathInspection.join(path, "config.json")) == .file
        else { return false }
        let bytes = try LocalStorage(root: path).readAll("config.json", limit: 4 << 20)
        guard case .object(let members)? = try? JSONValue(parsing: bytes) else { return false }
        return members["tie_word_embeddings"] == .bool(true)
    }
}
