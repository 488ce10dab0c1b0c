import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnUniversal

/// Rules that unite the shards of a distributed checkpoint, for the commands that read one.
struct UnionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Unite the shards in PATH by these rules of the universal checkpoint language.", valueName: "file"))
    var rules: String?

    @Option(
        help: ArgumentHelp(
            "Sizes of mesh axes that the rules leave open; one may follow from the number of shards.",
            valueName: "axis=size,…"))
    var mesh: MeshArgument?

    func validate() throws {
        if mesh != nil, rules == nil { throw ValidationError("--mesh goes with --rules only") }
    }

    /// Opens a checkpoint: by itself, or its shards united.
    func open(_ path: String, format: FormatName?, part: Int? = nil) throws -> OpenedCheckpoint {
        guard let rules else { return try OpenedCheckpoint(path, format: format, part: part) }
        let specification = try RulesFile.read(rules)
        let location = try Location(path)
        let shards: [any CheckpointReader]
        if case .deepspeed(let directory)? = try? RecognisedFormat(of: location.path, forced: format) {
            shards = try DeepSpeedReader.ranks(path: directory)
        } else {
            shards = try ShardSet([location.path], format: format, part: part).readers
        }
        return OpenedCheckpoint(
            united: try UnitedReader(shards, spec: specification, mesh: mesh?.sizes ?? [:]))
    }
}
