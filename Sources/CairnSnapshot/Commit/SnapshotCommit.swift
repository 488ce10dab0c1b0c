import CairnBase
import CairnCheckpoint

/// How what a rank has written becomes part of a checkpoint.
protocol SnapshotCommit: Sendable {
    /// Commits, or waits until the rank that commits has.
    ///
    /// - Returns: The timelines of all ranks where they are known, for the one that keeps them; `nil` elsewhere.
    /// - Throws: What kept the checkpoint from being committed; ``CairnError/Code/cancelled`` when the snapshot was.
    func commit(_ session: SaveSession, _ timeline: SnapshotTimeline, _ snapshot: Snapshot) throws -> [SnapshotTimeline]?

    /// Says that this rank's part will never be there.
    func abandon(step: Int, saveID: SaveID, because error: CairnError)
}

/// The commit of a checkpoint that one rank writes.
struct SoleCommit: SnapshotCommit {
    func commit(
        _ session: SaveSession, _ timeline: SnapshotTimeline, _ snapshot: Snapshot
    ) throws -> [SnapshotTimeline]? {
        try session.commit()
        return [timeline]
    }

    func abandon(step: Int, saveID: SaveID, because error: CairnError) {}
}
