import CairnBase
import CairnStorage

/// The manifest of a step as it is in the storage.
struct PresentManifest {
    var exists = false
    /// `nil` also when it cannot be read.
    private(set) var manifest: Manifest?
    /// As it is stored.
    private(set) var bytes: [UInt8] = []
    /// Whether a quarantine stands beside it.
    private(set) var isMarked = false
    /// Why the checkpoint is unusable, if it is: a damaged manifest, a file that is missing or of another length, a
    /// quarantine, or what this process has found out when it loaded it.
    private(set) var flaw: CairnError?

    static let none = PresentManifest()

    private init() {}

    /// - Throws: What a storage throws that cannot be read: that says nothing about the checkpoint.
    init(_ storage: any Storage, prefix: String) throws(CairnError) {
        let key = prefix + CairnReader.manifestName
        let entries = try storage.list(prefix)
        isMarked = entries.contains { $0.key == prefix + StepName.quarantineName }
        guard entries.contains(where: { $0.key == key }) else { return }
        exists = true
        do throws(CairnError) {
            bytes = try storage.readAll(key, limit: Manifest.maximumByteCount)
            let found = try Manifest(parsing: bytes, file: storage.location(of: key))
            manifest = found
            flaw = try found.flaw(entries, storage, prefix: prefix, isMarked: isMarked)
        } catch {
            switch error.code {
            case .notFound: exists = false
            // Another version's manifest is as good as ours.
            case .unsupported: break
            default:
                guard error.isDamage else { throw error }
                flaw = error
            }
        }
    }

    /// Whether a save may take its place without having been told to replace it.
    var isInTheWay: Bool { exists && flaw == nil }

    /// Whether a save that takes its place keeps it under another name.
    var isWorthKeeping: Bool { exists && (flaw != nil || manifest == nil) }
}

extension Manifest {
    /// Why the checkpoint is unusable, as far as a listing of its folder tells, a quarantine, or what this process has found
    /// out about it.
    func flaw(
        _ entries: [StorageEntry], _ storage: any Storage, prefix: String, isMarked: Bool
    ) throws(CairnError) -> CairnError? {
        if isMarked, let quarantine = try Quarantine.read(storage, step: step), quarantine.isOf(saveID) {
            return quarantine.error(location: storage.location(of: prefix + StepName.quarantineName))
        }
        let sizes = Dictionary(entries.map { ($0.key, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
        for file in files {
            let found = sizes[prefix + file.name]
            guard found != file.byteCount else { continue }
            return CairnError(
                .incomplete, found == nil ? "a rank file is missing" : "a rank file has another length than the manifest says",
                .init(
                    file: storage.location(of: prefix + file.name), rank: file.rank, expected: "\(file.byteCount) bytes",
                    found: found.map { "\($0) bytes" } ?? "nothing", advice: "bring the file back, or use another checkpoint"))
        }
        return KnownDamage.shared.error(of: saveID, step: step, in: storage)
    }
}

extension CairnError {
    /// The error of a save over a checkpoint that it may not replace.
    static func stepExists(_ location: String, _ step: Int) -> CairnError {
        CairnError(
            .alreadyExists, "there is a checkpoint of this step already",
            .init(file: location, found: "step \(step)", advice: "save with `replacing`, or delete it first"))
    }
}
