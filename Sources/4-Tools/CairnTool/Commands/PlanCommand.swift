import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnReshard

/// `cairn plan`
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Say what it would cost the ranks of a mesh to load a checkpoint.",
        discussion: """
            Computed from metadata; no tensor is read. For each rank: the bytes that it needs, the bytes that it would \
            read (whole chunks, each once), the files and stored fragments they are in, and the boxes that are moved.

            Of a format other than Cairn's only the needed bytes are known.

            Examples:
              cairn plan runs/kjv@400 --mesh dp=2,tp=4 --rules layouts.yaml
              cairn plan runs/kjv --mesh dp=8 --layout fsdp --rank 3 --json
            """)

    @Argument(help: ArgumentHelp("A run, a checkpoint, or a file or directory of another format.", valueName: "src"))
    var source: String

    @OptionGroup var layouts: LayoutSelection

    @Option(help: "Plan this rank only.")
    var rank: Int?

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let opened = try OpenedCheckpoint(source, format: options.format, part: options.part)
        let cairn = opened.stored
        let chunkByteCount = try cairn?.chunkByteCount() ?? 1 << 20
        let tensors = try layouts.tensors(of: opened.reader)
        let rankCount = layouts.mesh.mesh.rankCount
        var costs: [(rank: Int, cost: ReadPlan.Cost)] = []
        for rank in rank.map({ [$0] }) ?? Array(0..<rankCount) {
            let plan = try ReadPlan(reading: opened.reader, rank: rank, tensors: tensors)
            costs.append((rank, try plan.cost(chunkByteCount: chunkByteCount)))
        }
        try options.json ? printDocument(costs, isExact: cairn != nil) : printTable(costs, isExact: cairn != nil)
    }

    private func printTable(_ costs: [(rank: Int, cost: ReadPlan.Cost)], isExact: Bool) throws {
        var table = Table([
            .init(title: "RANK", alignment: .right), .init(title: "NEEDED", alignment: .right),
            .init(title: "READ", alignment: .right), .init(title: "READ/NEEDED", alignment: .right),
            .init(title: "FILES", alignment: .right), .init(title: "FRAGMENTS", alignment: .right),
            .init(title: "PIECES", alignment: .right),
        ])
        for (rank, cost) in costs {
            let known = { (text: String) in Table.Cell(isExact ? text : "-") }
            table.append([
                .init("\(rank)"), .init(ByteCountText.describe(cost.neededByteCount)),
                known(ByteCountText.describe(cost.readByteCount)), known(NumberText.fixed(cost.amplification, digits: 2)),
                known("\(cost.fileCount)"), known("\(cost.fragmentCount)"), known("\(cost.pieceCount)"),
            ])
        }
        for line in table.lines() { try StandardOutput.line(line) }
        guard costs.count > 1 else { return }
        let needed = costs.map(\.cost.neededByteCount)
        let total = needed.reduce(0) { $0.adding(clamped: $1) }
        let mean = Double(total) / Double(needed.count)
        try StandardOutput.line(
            "all: \(ByteCountText.describe(total)) needed, "
                + (isExact
                    ? "\(ByteCountText.describe(costs.reduce(0) { $0.adding(clamped: $1.cost.readByteCount) })) read, " : "")
                + "the largest rank \(NumberText.fixed(mean > 0 ? Double(needed.max() ?? 0) / mean : 1, digits: 2)) times the mean"
        )
    }

    private func printDocument(_ costs: [(rank: Int, cost: ReadPlan.Cost)], isExact: Bool) throws {
        try ResultDocument.print(
            schema: "cairn-plan/1",
            [
                "source": .string(source), "mesh": .string("\(layouts.mesh.mesh)"),
                "ranks": .array(
                    costs.map { rank, cost in
                        let known = { (count: Int) in isExact ? JSONValue.count(count) : .null }
                        return .object([
                            "rank": .count(rank), "needed_bytes": .count(cost.neededByteCount),
                            "read_bytes": known(cost.readByteCount), "chunks": known(cost.chunkCount),
                            "amplification": isExact ? .number(cost.amplification) : .null, "files": known(cost.fileCount),
                            "fragments": known(cost.fragmentCount), "pieces": known(cost.pieceCount),
                        ])
                    }),
            ])
    }
}
