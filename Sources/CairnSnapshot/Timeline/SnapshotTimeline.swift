package import CairnBase
public import CairnCheckpoint

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

    public init() {}
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
