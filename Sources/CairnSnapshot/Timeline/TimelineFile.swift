package import CairnBase
package import CairnCheckpoint
import CairnStorage

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
