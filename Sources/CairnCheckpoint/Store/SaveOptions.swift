import CairnBase

/// What a save may be told besides the state.
public struct SaveOptions: Sendable {
    /// Numbers to choose checkpoints by, such as a validation loss.
    public var metrics: [String: Double] = [:]
    /// What the state was made from.
    public var lineage: Lineage?
    /// How tensors are compressed.
    public var compression = Compression.none
    /// The bytes that one checksum covers: a power of two from 4 KiB to 64 MiB. Reading part of a tensor reads whole
    /// chunks.
    public var chunkByteCount = 1 << 20
    /// Replaces a checkpoint of the same step. The old one stays whole and readable until the new one is durable.
    ///
    /// One that is unusable (damaged, incomplete or in quarantine) may be saved over without permission and is not lost by it: it
    /// is set aside, and the save says so (``Manifest/setAside``).
    public var replacing = false
    /// Deletes a checkpoint of the same step that is unusable instead of setting it aside.
    public var discardsUnusable = false
    /// How many threads checksum, compress and write: 1 for the calling thread alone. Where writes mostly wait for the
    /// device, and this is more than 1, more threads may wait.
    public var concurrency = ThreadPool.processorCount
    /// The time to record, in seconds since 1970; `nil` for now.
    public var time: Double?
    /// The save id; `nil` for a random one. All ranks of one save must use the same.
    public var saveID: SaveID?
    /// Called from any writing thread with the number of tensor bytes just written; throwing stops the save.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(
        metrics: [String: Double] = [:], lineage: Lineage? = nil, compression: Compression = .none, replacing: Bool = false
    ) {
        self.metrics = metrics
        self.lineage = lineage
        self.compression = compression
        self.replacing = replacing
    }
}
