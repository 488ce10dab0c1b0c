import CairnBase
import CairnCheckpoint
import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How what a rank has written becomes part of a checkpoint. What the checkpoint replaces is left in place.
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
        _ = try session.publish()
        return [timeline]
    }

    func abandon(step: Int, saveID: SaveID, because error: CairnError) {}
}

/// The commit of a checkpoint that several ranks write, each in its own time.
///
/// A rank that has made its file durable leaves a note of a few hundred bytes beside it. Rank 0 reads the notes as they come;
/// when all are there and agree, it commits and removes them. Ranks wait for each other only here, on a thread of its own:
/// a slow rank delays the commit, a rank that fails or dies cancels it, and training continues. Ranks need nothing in common
/// but the storage, so that no collective call meets those of training.
struct SharedCommit: SnapshotCommit {
    let store: CheckpointStore
    let rank: Int
    let rankCount: Int
    let timeout: Duration

    private static let maximumNoteByteCount = 64 << 20

    func commit(
        _ session: SaveSession, _ timeline: SnapshotTimeline, _ snapshot: Snapshot
    ) throws -> [SnapshotTimeline]? {
        let note = try session.note(ofRank: rank, report: timeline.json)
        if rank == 0 { return try conclude(session, note, snapshot) }
        try post(note, session.step, session.saveID)
        try awaitOutcome(session, snapshot)
        return nil
    }

    func abandon(step: Int, saveID: SaveID, because error: CairnError) {
        // Where not even this can be written, rank 0 finds out by its timeout.
        try? post(.failed(error.adding(.init(rank: rank))), step, saveID)
    }

    /// Rank 0: waits for the notes of all ranks, and commits.
    private func conclude(
        _ session: SaveSession, _ own: RankNote, _ snapshot: Snapshot
    ) throws -> [SnapshotTimeline] {
        do {
            var notes: [Int: [UInt8]] = [0: own.encoded()]
            var pause = Pause(upTo: timeout)
            while true {
                try snapshot.checkCancellation()
                try collect(&notes, session)
                guard notes.count < rankCount else { break }
                guard pause.sleep() else {
                    let missing = (0..<rankCount).filter { notes[$0] == nil }
                    throw CairnError(
                        .incomplete, "ranks have not written their part in time, so nothing is committed",
                        .init(
                            rank: missing.first, expected: "\(rankCount) ranks within \(timeout)",
                            found: "none from \(missing.prefix(8).map(String.init).joined(separator: ", "))"))
                }
            }
            let ordered = (0..<rankCount).compactMap { notes[$0] }
            _ = try ShardedStore.commit(session, ordered)
            try? store.storage.delete((1..<rankCount).map { key($0, session.step, session.saveID) })
            return try ordered.compactMap { bytes in
                guard case .written(_, _, _, _, let report?) = try RankNote(parsing: bytes) else { return nil }
                return try? SnapshotTimeline(report)
            }
        } catch {
            let failure = CairnError(wrapping: error, "the checkpoint could not be committed")
            abandon(step: session.step, saveID: session.saveID, because: failure)
            throw failure
        }
    }

    /// Reads the notes that have come.
    private func collect(_ notes: inout [Int: [UInt8]], _ session: SaveSession) throws {
        var missing: [String: Int] = [:]
        for rank in 1..<max(1, rankCount) where notes[rank] == nil {
            missing[key(rank, session.step, session.saveID)] = rank
        }
        guard !missing.isEmpty else { return }
        for entry in try store.storage.list(session.prefix) {
            guard let rank = missing[entry.key] else { continue }
            let bytes = try store.storage.readAll(entry.key, limit: Self.maximumNoteByteCount)
            if case .failed(let error) = try RankNote(parsing: bytes) { throw error.adding(.init(rank: rank)) }
            notes[rank] = bytes
        }
    }

    /// Another rank: waits until the checkpoint is there, or rank 0 says that it will not be.
    private func awaitOutcome(_ session: SaveSession, _ snapshot: Snapshot) throws {
        let outcomeKey = key(0, session.step, session.saveID)
        var pause = Pause(upTo: timeout)
        repeat {
            if snapshot.isCancelled {
                let error = CairnError(.cancelled, "the snapshot was given up", .init(rank: rank))
                abandon(step: session.step, saveID: session.saveID, because: error)
            }
            if let manifest = try? store.open(step: session.step).manifest, manifest.saveID == session.saveID {
                session.end()
                return
            }
            if let bytes = try? store.storage.readAll(outcomeKey, limit: Self.maximumNoteByteCount),
                case .failed(let error) = try RankNote(parsing: bytes)
            {
                throw error
            }
            // Rank 0 removes the notes once it has committed: the checkpoint itself may have been replaced or deleted by
            // retention before this rank looked.
            if try isGone(key(rank, session.step, session.saveID)) {
                session.end()
                return
            }
        } while pause.sleep()
        // Rank 0 may still be about to commit: the file stays, and is collected if nothing names it.
        session.end()
        throw CairnError(
            .incomplete, "rank 0 has not committed in time",
            .init(rank: 0, expected: "a checkpoint of step \(session.step) within \(timeout)"))
    }

    private func isGone(_ key: String) throws(CairnError) -> Bool {
        do throws(CairnError) {
            _ = try store.storage.open(key)
            return false
        } catch {
            guard error.code == .notFound else { throw error }
            return true
        }
    }

    private func post(_ note: RankNote, _ step: Int, _ saveID: SaveID) throws(CairnError) {
        try store.storage.publish(note.encoded(), as: key(rank, step, saveID))
    }

    private func key(_ rank: Int, _ step: Int, _ saveID: SaveID) -> String {
        StepName.prefix(step) + RankFileName.makeNote(rank: rank, saveID: saveID)
    }
}

/// Pauses between looks at a storage: short ones at first, then longer ones, until a time is up.
struct Pause {
    private let deadline: ContinuousClock.Instant
    private var milliseconds: UInt32 = 1

    init(upTo duration: Duration) { deadline = .now + duration }

    /// Sleeps for a while on this thread; false, at once, when the time is up.
    mutating func sleep() -> Bool {
        guard ContinuousClock.now < deadline else { return false }
        usleep(milliseconds * 1000)
        milliseconds = min(50, milliseconds * 2)
        return true
    }
}
