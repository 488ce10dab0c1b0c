package import CairnBase
public import CairnCheckpoint
import CairnStorage

/// The phases of one snapshot on one rank: how long each took, and what training paid for it.
///
/// Times are in seconds of the clock on the wall, but for ``encode`` and ``store``, which add up those of all threads.
public struct SnapshotTimeline: Sendable, Hashable {
    public var step = 0
    public var rank = 0
    public var saveID: SaveID?
    /// When the snapshot was taken, in seconds since 1970.
    public var began = 0.0
    /// Training: the call itself, without ``wait``.
    public var retain = 0.0
    /// Training: waiting for a free slot in the pipeline.
    public var wait = 0.0
    /// Waiting for earlier snapshots to be drained.
    public var queue = 0.0
    /// From the start of draining until no tensor is held any more.
    public var drain = 0.0
    /// The part of that spent on checksums and compression.
    public var encode = 0.0
    /// The part of that spent handing bytes to the storage.
    public var store = 0.0
    /// Making the file durable.
    public var durable = 0.0
    /// Waiting for other ranks, and committing.
    public var commit = 0.0
    /// From the call until the checkpoint was durable.
    public var total = 0.0
    /// The bytes of tensors that this rank wrote.
    public var byteCount = 0
    /// How many updates, while tensors were held, went into another buffer because of that.
    public var copyCount = 0
    /// The bytes of those.
    public var copiedByteCount = 0
    /// Training: how long updates waited for memory, added up over threads.
    public var updateWait = 0.0
    /// The most bytes, until then, that lived on for snapshots alone.
    public var heldHighWaterByteCount = 0

    package init() {}
}

extension SnapshotTimeline {
    private static let times: [(String, any WritableKeyPath<SnapshotTimeline, Double> & Sendable)] = [
        ("began", \.began), ("retain", \.retain), ("wait", \.wait), ("queue", \.queue), ("drain", \.drain),
        ("encode", \.encode), ("store", \.store), ("durable", \.durable), ("commit", \.commit), ("total", \.total),
        ("update_wait", \.updateWait),
    ]

    private static let counts: [(String, any WritableKeyPath<SnapshotTimeline, Int> & Sendable)] = [
        ("step", \.step), ("rank", \.rank), ("bytes", \.byteCount), ("copies", \.copyCount),
        ("copied_bytes", \.copiedByteCount), ("held_high_water_bytes", \.heldHighWaterByteCount),
    ]

    /// The timeline as a JSON object: times in seconds, sizes in bytes.
    package var json: JSONValue {
        var object = JSONObject()
        for (key, path) in Self.counts { object[key] = .integer(Int64(self[keyPath: path])) }
        if let saveID { object["save_id"] = .string(saveID.description) }
        for (key, path) in Self.times { object[key] = .double(self[keyPath: path]) }
        return .object(object)
    }

    /// Reads what ``json`` gives. Unknown members are ignored, missing ones are zero.
    package init(_ json: JSONValue) throws(JSONError) {
        let object = try json.asObject()
        for (key, path) in Self.counts where object[key] != nil { self[keyPath: path] = try object.integer(key) }
        for (key, path) in Self.times where object[key] != nil { self[keyPath: path] = try object.double(key) }
        saveID = try object["save_id"]?.asString().saveID
    }
}

extension String {
    fileprivate var saveID: SaveID? { SaveID(self) }
}

/// The file beside a manifest that tells how its snapshot was taken and saved: `timeline.json`.
///
/// It is written after the commit and is not part of the checkpoint: it may be missing, or be that of an earlier save of the
/// step, which its save id tells.
package enum TimelineFile {
    static let schema = "cairn-timeline/1"
    private static let maximumByteCount = 64 << 20

    /// Writes the timelines of all ranks.
    static func write(
        _ ranks: [SnapshotTimeline], step: Int, saveID: SaveID, in store: CheckpointStore
    ) throws(CairnError) {
        let json = JSONValue.object([
            "schema": .string(schema), "step": .integer(Int64(step)), "save_id": .string(saveID.description),
            "ranks": .array(ranks.map(\.json)),
        ])
        var writer = JSONWriter()
        do throws(JSONError) {
            try writer.write(json)
        } catch {
            throw CairnError(.invalidArgument, "the timeline has a time that is not a number", cause: error)
        }
        try store.storage.publish(writer.finish(), as: StepName.prefix(step) + StepName.timelineName)
    }

    /// The timelines of the ranks that saved a checkpoint, or `nil` where none were kept.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a file that is not a timeline.
    package static func read(of manifest: Manifest, in store: CheckpointStore) throws(CairnError) -> [SnapshotTimeline]? {
        let key = StepName.prefix(manifest.step) + StepName.timelineName
        let bytes: [UInt8]
        do throws(CairnError) {
            bytes = try store.storage.readAll(key, limit: maximumByteCount)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
        do throws(JSONError) {
            let object = try JSONValue(parsing: bytes, maximumDepth: 8).asObject()
            guard try object.string("schema") == schema else { throw JSONError("the schema is not \(schema)") }
            guard try object.string("save_id") == manifest.saveID.description else { return nil }
            var ranks: [SnapshotTimeline] = []
            for rank in try object.array("ranks") { ranks.append(try SnapshotTimeline(rank)) }
            return ranks
        } catch {
            throw CairnError(.malformed, "this is not a timeline", .init(file: store.storage.location(of: key)), cause: error)
        }
    }
}
