/// How a checkpoint is copied to another store.
public struct ReplicationOptions: Sendable {
    /// The save that is meant; `nil` for whichever the step has.
    public var saveID: SaveID?
    /// Replaces another save's checkpoint of the same step. The old one stays whole and readable until the copy is durable.
    public var replacing = false
    /// How many threads read, sum and write.
    public var concurrency = 1
    /// Called from any of them with the number of bytes just copied; throwing stops the copy.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    public init() {}
}
