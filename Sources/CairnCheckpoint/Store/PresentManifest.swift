import CairnBase
import CairnStorage

/// The manifest of a step as it is in the storage.
struct PresentManifest {
    var exists = false
    /// `nil` also when it cannot be read.
    var manifest: Manifest?
    /// Whether a quarantine stands beside it.
    var isMarked = false

    static let none = PresentManifest()

    private init() {}

    init(_ storage: any Storage, prefix: String) throws(CairnError) {
        let key = prefix + CairnReader.manifestName
        let entries = try storage.list(prefix)
        exists = entries.contains { $0.key == key }
        isMarked = entries.contains { $0.key == prefix + StepName.quarantineName }
        guard exists else { return }
        manifest = try? Manifest(parsing: storage.readAll(key, limit: Manifest.maximumByteCount), file: key)
    }
}

extension CairnError {
    /// The error of a save over a checkpoint that it may not replace.
    static func stepExists(_ place: String, _ step: Int) -> CairnError {
        CairnError(
            .alreadyExists, "there is a checkpoint of this step already",
            .init(file: place, found: "step \(step)", advice: "save with `replacing`, or delete it first"))
    }
}
