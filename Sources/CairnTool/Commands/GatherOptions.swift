import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnUniversal

/// Rules that gather the shards of a distributed checkpoint, for the commands that read one.
struct GatherOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Gather the shards in PATH by these rules of the universal checkpoint language.", valueName: "file"))
    var rules: String?

    @Option(
        help: ArgumentHelp(
            "Sizes of mesh axes that the rules leave open; one may follow from the number of shards.",
            valueName: "axis=size,…"))
    var mesh: MeshArgument?

    func validate() throws {
        if mesh != nil, rules == nil { throw ValidationError("--mesh goes with --rules only") }
    }

    /// Opens a checkpoint: by itself, or its shards gathered.
    func open(_ path: String, format: FormatName?, part: Int? = nil) throws -> OpenedCheckpoint {
        guard let rules else { return try OpenedCheckpoint(path, format: format, part: part) }
        let specification = try RulesFile.read(rules)
        let location = try Location(path)
        let shards: [any CheckpointReader]
        if let recognised = try? CheckpointFormats.recognise(location.path, as: format),
            let openRanks = recognised.format.openRanks
        {
            shards = try openRanks(recognised.path)
        } else {
            shards = try ShardSet([location.path], format: format, part: part).readers
        }
        return OpenedCheckpoint(
            gathered: try GatheredReader(shards, spec: specification, mesh: mesh?.sizes ?? [:]))
    }
}
