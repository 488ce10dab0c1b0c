import CairnBase
import CairnCheckpoint
import CairnSnapshot

/// How the snapshot of one checkpoint was taken and saved, as `cairn ls --timings` shows it.
struct ListedTimings {
    private let step: Int
    /// One for each rank; `nil` where none was recorded.
    private let ranks: [SnapshotTimeline]?
    /// Why a record could not be read.
    private let error: CairnError?

    /// - Throws: What a storage throws that cannot be reached.
    init(of summary: CheckpointSummary, in store: CheckpointStore) throws(CairnError) {
        step = summary.step
        var ranks: [SnapshotTimeline]?
        var flaw: CairnError?
        if let manifest = summary.manifest {
            do throws(CairnError) {
                ranks = try TimelineFile.read(of: manifest, in: store)
            } catch {
                guard error.code == .malformed else { throw error }
                flaw = error
            }
        }
        self.ranks = ranks.flatMap { $0.isEmpty ? nil : $0 }
        error = flaw
    }

    static let table = Table(
        [
            "STEP", "RANK", "RETAIN", "WAIT", "UPDATES", "COPIES", "QUEUE", "DRAIN", "DURABLE", "COMMIT", "TOTAL", "SIZE",
        ].map { .init(title: $0, alignment: .right) })

    func append(to table: inout Table) {
        if let error { StandardError.note(error.description) }
        guard let ranks else {
            table.append([.init(String(step))] + [Table.Cell](repeating: "-", count: table.columns.count - 1))
            return
        }
        for rank in ranks {
            func time(_ seconds: Double) -> Table.Cell { .init(DurationText.describe(seconds)) }
            table.append([
                .init(String(step)), .init(String(rank.rank)), time(rank.retain), time(rank.wait), time(rank.updateWait),
                .init(ByteCountText.describe(rank.copiedByteCount)), time(rank.queue), time(rank.drain),
                time(rank.durable), time(rank.commit), time(rank.total), .init(ByteCountText.describe(rank.byteCount)),
            ])
        }
    }

    func add(to document: inout JSONObject) {
        document["timings"] = ranks.map { .array($0.map(\.json)) } ?? .null
        if let error { document["timings_error"] = .string(error.description) }
    }
}
