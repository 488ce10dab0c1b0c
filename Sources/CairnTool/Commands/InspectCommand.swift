import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnTensor

/// `cairn inspect`
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show what is inside a checkpoint.",
        discussion: """
            Lists the tensors with their types and shapes, the values beside them, and where the checkpoint comes \
            from. \
            Only the description of the checkpoint is read, not its data, unless --stats asks for it.

            Statistics: minimum and maximum without NaN; mean and standard deviation over finite elements; how many \
            are \
            NaN, infinite and zero. Complex and packed types have none.

            Examples:
              cairn inspect runs/kjv@400
              cairn inspect model.safetensors --tensor '*.attention.*' --stats
            """)

    @Argument(help: "A run, a checkpoint, or a file or directory of another format.")
    var path: String

    @Option(
        help: ArgumentHelp(
            "Show only tensors with a name like this: * for any characters, ? for one; may be given several times.",
            valueName: "glob"))
    var tensor: [String] = []

    @Flag(help: "Read the data of the shown tensors and add statistics.")
    var stats = false

    @OptionGroup var union: UnionOptions

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let opened = try union.open(path, format: options.format, part: options.part)
        let patterns = try tensor.map { try GlobPattern($0) }
        let shown = opened.reader.tensors.filter { tensor in
            patterns.isEmpty || patterns.contains { $0.matches(tensor.name) }
        }
        if shown.isEmpty, !patterns.isEmpty {
            throw CairnError(
                .notFound, "no tensor has a name like that",
                .init(
                    file: path, expected: tensor.joined(separator: " or "),
                    advice: "`cairn inspect` without --tensor lists the names"))
        }
        let statistics = try stats ? gather(shown, from: opened.reader) : nil
        let report = InspectionReport(
            path: path, opened: opened, shown: shown, isSelection: !patterns.isEmpty, statistics: statistics)
        if options.json { try report.printDocument() } else { try report.printText() }
    }

    private func gather(
        _ tensors: [TensorDescription], from reader: any CheckpointReader
    ) throws -> [TensorStatistics?] {
        let blocks = TensorBlocks(reader)
        let bar = ProgressBar("reading", total: tensors.totalByteCount)
        defer { bar.finish() }
        return try tensors.map { try TensorStatistics.gather($0, from: blocks, progress: bar.add) }
    }
}
