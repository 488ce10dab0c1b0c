import CairnBase
import CairnCheckpoint
import CairnStorage

/// The `config.json` that lies beside a model, or in its directory.
enum ModelConfigurationFile {
    private static let greatestByteCount = 4 << 20

    /// Its path, if there is one.
    ///
    /// - Throws: As ``Location``.
    static func path(beside text: String) throws(CairnError) -> String? {
        let path = try Location(text).path
        let directory = try PathInspection.kind(of: path) == .directory ? path : PathInspection.split(path).directory
        let file = PathInspection.join(directory, ModelConfiguration.fileName)
        return try PathInspection.kind(of: file) == .file ? file : nil
    }

    /// What it says.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a file that is not one.
    static func beside(_ text: String) throws(CairnError) -> ModelConfiguration? {
        guard let file = try path(beside: text) else { return nil }
        let (directory, name) = PathInspection.split(file)
        return try ModelConfiguration(
            json: LocalStorage(root: directory).readAll(name, limit: greatestByteCount), file: file)
    }
}
