import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage

/// An adapter as PEFT saves it: a directory with its configuration and its matrices.
enum AdapterFiles {
    private static let configurationName = "adapter_config.json"

    static func open(_ path: String) throws -> (adapter: LowRankAdapter, source: MergeSource) {
        let configurationPath = PathInspection.join(path, configurationName)
        guard try PathInspection.kind(of: path) == .directory, try PathInspection.kind(of: configurationPath) == .file else {
            throw CairnError(
                .unsupported, "this is no adapter", .init(file: path, expected: "a directory with \(configurationName)"))
        }
        let bytes = try LocalStorage(root: path).readAll(configurationName, limit: 4 << 20)
        let configuration = try LowRankAdapter.Configuration(
            json: String(decoding: bytes, as: UTF8.self), file: configurationPath)
        for name in ["adapter_model.safetensors", "adapter_model.bin"] {
            let file = PathInspection.join(path, name)
            guard try PathInspection.kind(of: file) == .file else { continue }
            let source = try MergeSource(file)
            return (LowRankAdapter(source.input, configuration: configuration), source)
        }
        throw CairnError(
            .notFound, "the adapter has no matrices",
            .init(file: path, expected: "adapter_model.safetensors or adapter_model.bin"))
    }
}
