public import CairnBase
public import CairnCommunication
import CairnLayout
import CairnTensor
import Synchronization

/// A store into which the ranks of a job save one checkpoint together.
///
/// Every rank computes from the layouts alone which fragments it writes, writes them into a file of its own, and sends
/// rank 0 a digest of a few hundred bytes; rank 0 commits. Nothing else is exchanged: no plan is gathered, no metadata
/// merged. A rank that fails, dies or would save something else leaves the store as it was, and every rank throws an error
/// that names it.
///
/// ```swift
/// let store = try ShardedStore(CheckpointStore(path: "runs/kjv"), over: communicator)
/// try store.save(state, step: 400)
/// ```
public final class ShardedStore: Sendable {
    /// The checkpoints.
    package let store: CheckpointStore
    /// The ranks.
    package let communicator: any Communicator
    /// Random bits that the ranks share, so that each save's id needs no exchange.
    private let nonce: (UInt64, UInt64)
    private let saveCount = Atomic<UInt64>(0)

    /// Joins the ranks of `communicator`. All of them call it together.
    ///
    /// - Throws: What the communicator throws.
    public init(_ store: CheckpointStore, over communicator: any Communicator) throws(CairnError) {
        self.store = store
        self.communicator = communicator
        var generator = SystemRandomNumberGenerator()
        var bytes: [UInt8] = []
        for _ in 0..<2 { bytes.append(littleEndian: generator.next() as UInt64) }
        let shared = try communicator.broadcast(message: communicator.rank == 0 ? bytes : nil, from: 0)
        guard shared.count == 16 else {
            throw CairnError(.mismatch, "rank 0 sent no save id", .init(found: "\(shared.count) bytes"))
        }
        nonce = (shared.littleEndian(UInt64.self, at: 0), shared.littleEndian(UInt64.self, at: 8))
    }

    /// Saves what all ranks hold as the checkpoint of `step`. All of them call it together; when it returns, the
    /// checkpoint is durable.
    ///
    /// - Returns: The manifest on rank 0, `nil` elsewhere.
    /// - Throws: On every rank the first rank's error; ``CairnError/Code/mismatch`` naming a rank that saves another step
    ///   or another state. Older checkpoints are untouched.
    @discardableResult
    public func save(
        _ state: ShardedState, step: Int, options: SaveOptions = SaveOptions()
    ) throws -> Manifest? {
        var options = options
        let saveID = nextSaveID()
        options.saveID = options.saveID ?? saveID
        var session: SaveSession?
        let note: RankNote
        do {
            guard state.rank == communicator.rank, state.rankCount == communicator.size else {
                throw CairnError(
                    .mismatch, "the state belongs to another rank",
                    .init(
                        expected: "rank \(communicator.rank) of \(communicator.size)",
                        found: "rank \(state.rank) of \(state.rankCount)"))
            }
            let opened = try store.beginSave(step: step, rankCount: communicator.size, options: options)
            session = opened
            let content = try SaveContent(state, RankWrites(state))
            try opened.setGlobal(of: content)
            try opened.write(content)
            note = try opened.note(ofRank: state.rank)
        } catch {
            note = .failed(CairnError(wrapping: error, "the rank's file could not be written"))
        }
        return communicator.rank == 0
            ? try conclude(session, note, step: step) : try awaitOutcome(session, note)
    }

    /// Saves what all ranks hold without blocking the calling task's thread. All of them call it together.
    @discardableResult
    public func save(
        _ state: ShardedState, step: Int, options: SaveOptions = SaveOptions()
    ) async throws -> Manifest? {
        try await runOnThread { try self.save(state, step: step, options: options) }
    }

    /// Joins the ranks of `communicator` without blocking the calling task's thread. All of them call it together.
    package static func joining(
        _ store: CheckpointStore, over communicator: any Communicator
    ) async throws -> ShardedStore {
        try await runOnThread { try ShardedStore(store, over: communicator) }
    }

    /// Rank 0: hears the others, commits, and tells them.
    private func conclude(_ session: SaveSession?, _ note: RankNote, step: Int) throws -> Manifest? {
        do {
            let notes = try communicator.gather(note.encoded(), at: 0) ?? []
            let manifest: Manifest
            do {
                manifest = try Self.commit(session, notes)
                session?.removeReplaced()
            } catch {
                let failure = CairnError(wrapping: error, "the checkpoint could not be committed")
                _ = try communicator.broadcast(message: RankNote.failed(failure).encoded(), from: 0)
                throw failure
            }
            // The checkpoint is committed whether or not the others still receive this.
            _ = try? communicator.broadcast(message: RankNote.committed.encoded(), from: 0)
            return manifest
        } catch {
            session?.cancel()
            throw error
        }
    }

    /// Another rank: sends its report and learns whether the checkpoint is there.
    private func awaitOutcome(_ session: SaveSession?, _ note: RankNote) throws -> Manifest? {
        do {
            _ = try communicator.gather(note.encoded(), at: 0)
            guard case .failed(let error) = try RankNote(parsing: communicator.broadcast(message: nil, from: 0)) else {
                session?.end()
                return nil
            }
            session?.cancel()
            throw error
        } catch {
            // Without an outcome rank 0 may be committing this rank's file: it stays, and is collected if nothing names it.
            session?.end()
            throw error
        }
    }

    /// Rank 0: commits what the reports of all ranks, in their order, say is written. What the checkpoint replaces is still
    /// there afterwards (``SaveSession/removeReplaced()``).
    ///
    /// - Throws: The first rank's error; ``CairnError/Code/mismatch`` naming a rank that saves another step or another
    ///   state than most do. Nothing is committed then.
    package static func commit(_ session: SaveSession?, _ notes: [[UInt8]]) throws -> Manifest {
        var written: [(file: Manifest.File, digest: String, step: Int, reused: [ReusedFragments])] = []
        for (rank, bytes) in notes.enumerated() {
            switch try RankNote(parsing: bytes) {
            case .failed(let error): throw error.adding(.init(rank: rank))
            case .written(let file, let digest, let step, let reused, _): written.append((file, digest, step, reused))
            case .committed:
                throw CairnError(.mismatch, "a rank sent no report of its file", .init(rank: rank))
            }
        }
        guard let session, let first = written.first else {
            throw CairnError(.incomplete, "rank 0 wrote nothing, so nothing is committed", .init(rank: 0))
        }
        if let odd = Self.oddOneOut(written.map(\.step)) {
            throw CairnError(
                .mismatch, "a rank saves another step, so nothing is committed",
                .init(
                    rank: odd.rank, expected: "step \(written[odd.reference].step), as rank \(odd.reference)",
                    found: "step \(written[odd.rank].step)"))
        }
        guard first.step == session.step else {
            throw CairnError(
                .mismatch, "the ranks save another step than this one",
                .init(expected: "step \(session.step)", found: "step \(first.step)"))
        }
        if let odd = Self.oddOneOut(written.map(\.digest)) {
            throw CairnError(
                .mismatch, "a rank saves another state, so nothing is committed",
                .init(
                    rank: odd.rank, expected: "plan \(written[odd.reference].digest), as rank \(odd.reference)",
                    found: "plan \(written[odd.rank].digest)",
                    advice: "tensors, layouts, values and ties must be the same on every rank"))
        }
        for (rank, entry) in written.enumerated() {
            guard entry.file.rank == rank else {
                throw CairnError(.mismatch, "a rank wrote another rank's file", .init(rank: rank, found: entry.file.name))
            }
            if rank > 0 { try session.accept(rank: rank, entry.file, [], reused: entry.reused) }
        }
        return try session.publish()
    }

    /// The first rank that differs from most, of equally many from rank 0, and the first of those that it differs from.
    private static func oddOneOut<Report: Hashable>(_ reports: [Report]) -> (rank: Int, reference: Int)? {
        var counts: [Report: Int] = [:]
        for report in reports { counts[report, default: 0] += 1 }
        guard counts.count > 1, let most = counts.values.max() else { return nil }
        // Ascending, so that rank 0 wins a draw.
        guard let reference = reports.indices.first(where: { counts[reports[$0]] == most }),
            let rank = reports.indices.first(where: { reports[$0] != reports[reference] })
        else { return nil }
        return (rank, reference)
    }

    /// The same on every rank without a message: the shared bits and how many saves there were. Both steps are bijections,
    /// so no id returns within a run.
    package func nextSaveID() -> SaveID {
        let count = saveCount.wrappingAdd(1, ordering: .relaxed).newValue
        return SaveID(
            high: SplitMix64.mixed(nonce.0 &+ count &* 0x9E37_79B9_7F4A_7C15), low: SplitMix64.mixed(nonce.1 ^ count))
    }
}

extension SaveSession {
    /// What a rank that has written its file tells the others.
    package func note(ofRank rank: Int, report: JSONValue? = nil) throws(CairnError) -> RankNote {
        guard let file = file(ofRank: rank) else {
            throw CairnError(.incomplete, "the rank's file is not part of the save", .init(rank: rank))
        }
        return .written(file, digest: try digest(), step: step, reused: reused(ofRank: rank), report: report)
    }
}

/// What the ranks of a save tell each other at its end: a few hundred bytes of JSON.
package enum RankNote {
    /// A rank has written its file and made it durable; the digest is that of everything that ranks must agree on. The
    /// report, if there is one, tells how that went.
    case written(Manifest.File, digest: String, step: Int, reused: [ReusedFragments] = [], report: JSONValue? = nil)
    /// The rank, or the commit, failed.
    case failed(CairnError)
    /// The checkpoint is there.
    case committed

    package func encoded() -> [UInt8] {
        let json: JSONValue
        switch self {
        case .written(let file, let digest, let step, let reused, let report):
            var object: JSONObject = ["file": file.json, "digest": .string(digest), "step": .integer(Int64(step))]
            if !reused.isEmpty { object["earlier"] = ReusedFragments.json(reused) }
            object["account"] = report
            json = .object(object)
        case .failed(let error):
            var object: JSONObject = ["error": .string(error.code.description), "message": .string(error.message)]
            let context = error.context
            for (key, value) in [
                ("file", context.file), ("tensor", context.tensor), ("expected", context.expected),
                ("found", context.found), ("advice", context.advice), ("cause", error.cause.map { "\($0)" }),
            ] {
                if let value { _ = object.append(key, .string(value)) }
            }
            for (key, value) in [("offset", context.offset), ("rank", context.rank)] {
                if let value { _ = object.append(key, .integer(Int64(value))) }
            }
            json = .object(object)
        case .committed:
            json = .object(["committed": .bool(true)])
        }
        return Array(text(json).utf8)
    }

    /// - Throws: ``CairnError/Code/malformed`` for bytes that no rank of this version sends.
    package init(parsing bytes: [UInt8]) throws(CairnError) {
        do {
            let object = try JSONValue(parsing: bytes, maximumDepth: 8).asObject()
            if let code = try object["error"]?.asString() {
                let cause = try object["cause"]?.asString()
                self = .failed(
                    CairnError(
                        CairnError.Code(code) ?? .inputOutput, try object.string("message"),
                        .init(
                            file: try object["file"]?.asString(), tensor: try object["tensor"]?.asString(),
                            offset: try object["offset"]?.asInteger(), rank: try object["rank"]?.asInteger(),
                            expected: try object["expected"]?.asString(), found: try object["found"]?.asString(),
                            advice: try object["advice"]?.asString()),
                        cause: cause.map(RemoteCause.init)))
            } else if object["committed"] != nil {
                self = .committed
            } else {
                self = .written(
                    try Manifest.File(object.object("file")), digest: try object.string("digest"),
                    step: try object.integer("step"),
                    reused: try object["earlier"].map { try ReusedFragments.parse($0) } ?? [], report: object["account"])
            }
        } catch {
            throw CairnError(.malformed, "a rank's report of its save cannot be read", cause: error)
        }
    }
}

/// The cause of an error of another rank, as that rank described it.
private struct RemoteCause: Error, CustomStringConvertible {
    var description: String
}
