public import CairnBase
import CairnStorage

/// A checkpoint that was unusable and that a save of the same step has put out of the way, without losing a byte of it.
///
/// Its rank files stay where they are, under names that hold its own save id. Its manifest is in the same folder as
/// `set-aside-….json`, and what said that it is in quarantine as `set-aside-….quarantine.json`. Nothing chooses, counts or
/// deletes it. To remove it, delete the manifest that was set aside: its files are then debris.
public struct SetAside: Sendable, Hashable {
    /// Its step.
    public var step: Int
    /// Its save; `nil` when its manifest could not be read.
    public var saveID: SaveID?
    /// Where its manifest is now.
    public var location: String
    /// What was known against it.
    public var reason: String

    static let prefix = "set-aside-"
    private static let manifestSuffix = ".json"
    private static let quarantineSuffix = ".quarantine.json"

    /// Whether a file of a step's folder is a manifest that was set aside.
    static func isManifest(_ name: some StringProtocol) -> Bool {
        isOwn(name) && !name.hasSuffix(quarantineSuffix)
    }

    /// Whether a file of a step's folder was set aside.
    static func isOwn(_ name: some StringProtocol) -> Bool { name.hasPrefix(prefix) && name.hasSuffix(manifestSuffix) }

    /// Keeps what stands at a step's manifest under another name, durably. It also stays where it is.
    static func keep(
        _ present: PresentManifest, _ storage: any Storage, prefix: String, step: Int
    ) throws(CairnError) -> SetAside {
        // The same save is set aside under the same name however often that is begun.
        let id = present.manifest.map { "\($0.saveID)" }
            ?? Hexadecimal.encode((0..<4).map { UInt8(truncatingIfNeeded: CRC32C.checksum(present.bytes.span.bytes) >> (24 - 8 * $0)) })
        let key = prefix + Self.prefix + id
        if present.isMarked {
            let mark = try? storage.readAll(prefix + StepName.quarantineName, limit: Quarantine.maximumByteCount)
            if let mark { try storage.publish(mark, as: key + quarantineSuffix) }
        }
        try storage.publish(present.bytes, as: key + manifestSuffix)
        return SetAside(
            step: step, saveID: present.manifest?.saveID, location: storage.location(of: key + manifestSuffix),
            reason: present.flaw.map { "\($0)" } ?? "it cannot be read by this version")
    }

    /// What the save reports about it.
    package var warning: CairnError {
        CairnError(
            .alreadyExists, "step \(step) had an unusable checkpoint, which was set aside: \(reason)",
            .init(file: location, advice: "delete this file when the checkpoint is no longer needed"))
    }
}

extension CheckpointStore {
    /// The checkpoints of a step that saves have set aside.
    public func setAside(step: Int) throws(CairnError) -> [SetAside] {
        let prefix = StepName.prefix(step)
        var found: [SetAside] = []
        for entry in try storage.list(prefix) where SetAside.isManifest(entry.key.dropFirst(prefix.utf8.count)) {
            var aside = SetAside(step: step, saveID: nil, location: storage.location(of: entry.key), reason: "")
            do throws(CairnError) {
                let manifest = try Manifest(
                    parsing: storage.readAll(entry.key, limit: Manifest.maximumByteCount), file: aside.location)
                aside.saveID = manifest.saveID
                aside.reason = "it was found unusable when the step was saved again"
            } catch {
                guard error.isDamage else { throw error }
                aside.reason = "\(error)"
            }
            found.append(aside)
        }
        return found
    }
}
