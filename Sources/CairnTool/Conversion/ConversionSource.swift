import CairnBase
import CairnCheckpoint
import CairnUniversal

/// What is converted: one checkpoint, or the shards of a distributed one that rules unite.
struct ConversionSource {
    let reader: any CheckpointReader
    /// The commit record, for our own format.
    let manifest: Manifest?
    /// The path, for the lineage of what is made.
    let path: String
    /// What must not be written over.
    let recognised: RecognisedFormat

    /// - Throws: As ``OpenedCheckpoint``.
    init(_ text: String, format: FormatName?) throws {
        let opened = try OpenedCheckpoint(text, format: format)
        path = try Location(text).path
        reader = opened.reader
        manifest = opened.manifest
        let recognised = try RecognisedFormat(of: path, forced: format)
        if case .store(let store) = recognised, let manifest {
            self.recognised = .checkpoint(store: store, step: manifest.step)
        } else {
            self.recognised = recognised
        }
    }

    /// The shards in a directory, one a rank, united.
    ///
    /// - Throws: What the rules say of shards that do not fit them.
    init(shards path: String, rules file: String, mesh: MeshArgument?, format: FormatName?) throws {
        let shards = try ShardSet([path], format: format).readers
        reader = try UnitedReader(shards, spec: RulesFile.read(file), mesh: mesh?.sizes ?? [:])
        manifest = nil
        self.path = path
        recognised = .safetensors(path: path)
    }

    /// The same with the terms of sums and means that ranks have saved added up.
    func reduced() throws -> any CheckpointReader {
        guard let cairn = reader as? CairnReader else {
            throw CairnError(
                .invalidArgument, "only a checkpoint of a run has terms to reduce",
                .init(file: reader.source, advice: "terms of foreign shards are reduced by rules"))
        }
        return try ReducedReader(cairn)
    }
}
