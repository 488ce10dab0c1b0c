public import CairnBase
import CairnStorage

/// Why a checkpoint is not used any more although it is there: what `quarantine.json` beside its manifest says.
///
/// A restart that finds a checkpoint damaged puts it in quarantine and takes another. It is never chosen again, and never
/// deleted without being asked for: retention neither counts nor touches it. It can still be opened by its step, to see what is
/// left of it. A save of the same step sets it aside (``SetAside``). That, a rebuilt manifest or a whole copy from another
/// store ends the quarantine, and so does ``CheckpointStore/liftQuarantine(step:)``.
public struct Quarantine: Sendable, Hashable {
    static let schema = "cairn-quarantine/1"
    static let maximumByteCount = 1 << 20

    /// The step of the checkpoint.
    public var step: Int
    /// The save that is meant; `nil` when its manifest could not be read.
    public var saveID: SaveID?
    /// What was found, in a sentence.
    public var reason: String
    /// When, in seconds since 1970.
    public var time: Double
    /// Whether all this could be read.
    private(set) var isReadable = true

    /// What a load says that passes it over.
    package func error(in store: CheckpointStore) -> CairnError {
        error(location: store.storage.location(of: StepName.prefix(step) + StepName.quarantineName))
    }

    func error(location: String) -> CairnError {
        CairnError(.corrupted, "the checkpoint is in quarantine: \(reason)", .init(file: location))
    }

    /// Whether it is about this save: otherwise it is about what is no longer there. One that cannot be read is about any.
    func isOf(_ saveID: SaveID) -> Bool { self.saveID == saveID || !isReadable }

    fileprivate var json: JSONValue {
        .object([
            "schema": .string(Self.schema), "step": .integer(Int64(step)),
            "save_id": saveID.map { .string($0.description) } ?? .null, "time": .double(time), "reason": .string(reason),
        ])
    }

    /// The quarantine that an object of a storage is; `nil` when there is none.
    static func read(_ storage: any Storage, step: Int) throws(CairnError) -> Quarantine? {
        let key = StepName.prefix(step) + StepName.quarantineName
        let bytes: [UInt8]
        do throws(CairnError) {
            bytes = try storage.readAll(key, limit: maximumByteCount)
        } catch {
            switch error.code {
            case .notFound: return nil
            case .malformed: return unreadable(step)
            default: throw error
            }
        }
        do throws(JSONError) {
            let object = try JSONValue(parsing: bytes, maximumDepth: 8).asObject()
            guard try object.string("schema") == schema else { return unreadable(step) }
            var saveID: SaveID?
            if case .string(let digits) = try object.value("save_id") { saveID = SaveID(digits) }
            return Quarantine(
                step: step, saveID: saveID, reason: try object.string("reason"), time: try object.double("time"))
        } catch {
            return unreadable(step)
        }
    }

    /// It was put there on purpose, so it holds.
    private static func unreadable(_ step: Int) -> Quarantine {
        Quarantine(step: step, saveID: nil, reason: "why cannot be read any more", time: 0, isReadable: false)
    }

    fileprivate init(step: Int, saveID: SaveID?, reason: String, time: Double, isReadable: Bool = true) {
        self.step = step
        self.saveID = saveID
        self.reason = reason
        self.time = time
        self.isReadable = isReadable
    }
}

extension CheckpointStore {
    /// The quarantine that the checkpoint of a step is in; `nil` when it is in none.
    ///
    /// - Throws: What a storage throws that cannot be reached.
    public func quarantine(ofStep step: Int) throws(CairnError) -> Quarantine? {
        guard let quarantine = try Quarantine.read(storage, step: step) else { return nil }
        let saveID: SaveID
        do throws(CairnError) {
            saveID = try open(step: step).manifest.saveID
        } catch {
            guard error.code.isUnusable else { throw error }
            return error.code == .notFound ? nil : quarantine
        }
        return quarantine.isOf(saveID) ? quarantine : nil
    }

    /// Puts the checkpoint of a step in quarantine.
    ///
    /// - Parameters:
    ///   - saveID: The save that was found damaged; `nil` when its manifest cannot be read.
    ///   - error: What was found.
    /// - Throws: What the storage throws.
    @discardableResult
    public func quarantine(step: Int, saveID: SaveID?, because error: CairnError) throws(CairnError) -> Quarantine {
        let quarantine = Quarantine(step: step, saveID: saveID, reason: error.description, time: currentTime())
        try storage.publish(
            Array(text(quarantine.json).utf8), as: StepName.prefix(step) + StepName.quarantineName)
        return quarantine
    }

    /// Ends the quarantine of a step's checkpoint, if it is in one: it may be chosen again, and retention counts it.
    public func liftQuarantine(step: Int) throws(CairnError) {
        try storage.delete([StepName.prefix(step) + StepName.quarantineName])
    }

    /// - Throws: ``CairnError/Code/corrupted`` for a checkpoint in quarantine.
    func refuseQuarantined(_ step: Int) throws(CairnError) {
        if let quarantine = try quarantine(ofStep: step) { throw quarantine.error(in: self) }
    }

    /// The committed steps, the newest first, with their quarantines.
    package func candidates() throws(CairnError) -> [(step: Int, quarantine: Quarantine?)] {
        var candidates: [(step: Int, quarantine: Quarantine?)] = []
        for (step, isMarked) in try committedSteps().reversed() {
            candidates.append((step, isMarked ? try quarantine(ofStep: step) : nil))
        }
        return candidates
    }
}

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
        let id =
            present.manifest.map { "\($0.saveID)" }
            ?? Hexadecimal.encode(
                (0..<4).map { UInt8(truncatingIfNeeded: CRC32C.checksum(present.bytes.span.bytes) >> (24 - 8 * $0)) })
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
                guard error.code.isUnusable else { throw error }
                aside.reason = "\(error)"
            }
            found.append(aside)
        }
        return found
    }
}
