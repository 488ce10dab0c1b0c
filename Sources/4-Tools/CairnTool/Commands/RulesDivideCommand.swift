import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnUniversal

/// `cairn rules divide`
struct RulesDivideCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "divide",
        abstract: "Write a checkpoint as the shards of another framework's ranks, by the rules that gather them.",
        discussion: """
            DST becomes a directory with rank-00000.safetensors and so on, one file a rank in the order of the mesh. \
            It must not exist yet. The way back, and from shards to any format: `cairn convert DST … --rules FILE`.

            What does not fit the rules, and rules that work in one direction only, are errors (exit code 2) before \
            anything is written.

            Examples:
              cairn rules divide rules.yaml llama/ shards --mesh pp=2,dp=1,tp=4
              cairn convert shards whole.safetensors --to safetensors --rules rules.yaml --mesh pp=2,dp=1,tp=4
            """)

    @Argument(help: ArgumentHelp("The rules.", valueName: "file"))
    var file: String

    @Argument(help: ArgumentHelp("A run, a checkpoint, or a file or directory of another format.", valueName: "src"))
    var source: String

    @Argument(help: ArgumentHelp("The directory to write.", valueName: "dst"))
    var destination: String

    @Option(help: ArgumentHelp("Sizes of the mesh axes that the rules leave open.", valueName: "axis=size,…"))
    var mesh: MeshArgument?

    @Flag(
        help: """
            Put up with rules that work in one direction only: what they drop is missing, a mean is every rank's, a sum is \
            the first rank's and zero elsewhere.
            """)
    var allowLosses = false

    @OptionGroup var losses: LossOptions

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let specification = try RulesFile.read(file)
        let opened = try OpenedCheckpoint(source, format: options.format, part: options.part)
        try opened.checkNotEmpty()
        let flattened = LossOptions.flattened(opened.reader)
        try losses.check(opened.skippedEntries + flattened)
        let sharded = try ShardedCheckpoint(
            opened.reader, spec: specification, mesh: mesh?.sizes ?? [:], allowsLosses: allowLosses)
        let ranks = 0..<sharded.mesh.rankCount
        let total = try ranks.reduce(0) { sum, rank in
            try sharded.shard(ofRank: rank).tensors.reduce(sum) { $0 + $1.byteCount }
        }
        let directory = try NewDirectory(destination)
        Interruption.watch()
        let bar = ProgressBar("sharding", total: total)
        var notes = Set(flattened)
        do {
            defer { bar.finish() }
            for rank in ranks {
                let writer = try SafeTensorsWriter(
                    path: directory.path(Self.fileName(rank)), maximumShardByteCount: nil, replaces: false)
                var before = 0
                let shard = try sharded.shard(ofRank: rank)
                notes.formUnion(
                    try copyCheckpoint(
                        from: shard, to: InterruptibleWriter(writer), strict: losses.strict
                    ) { written, _ in
                        bar.add(written - before)
                        before = written
                    })
            }
            try directory.publish()
        } catch {
            directory.discard()
            throw error
        }
        for note in notes.sorted() { StandardError.note(note) }
        try report(sharded, total, opened.skippedEntries + notes.sorted())
    }

    /// `rank-00003.safetensors`.
    private static func fileName(_ rank: Int) -> String {
        let digits = "\(rank)"
        return "rank-" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits + ".safetensors"
    }

    private func report(_ sharded: ShardedCheckpoint, _ byteCount: Int, _ notes: [String]) throws {
        guard options.json else {
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(destination): \(sharded.mesh.rankCount) shards for the mesh \(sharded.mesh), "
                        + ByteCountText.describe(byteCount)))
            return
        }
        try ResultDocument.print(
            schema: "cairn-rules-divide/1",
            [
                "source": .string(source), "destination": .string(destination), "mesh": .string("\(sharded.mesh)"),
                "ranks": .count(sharded.mesh.rankCount), "bytes": .count(byteCount),
                "notes": .strings(notes),
            ])
    }
}
