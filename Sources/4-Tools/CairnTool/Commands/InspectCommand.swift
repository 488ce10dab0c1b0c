import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnDelta
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
            NaN, infinite and zero. Complex and packed types have none, nor have the codes of quantised weights.

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

    @OptionGroup var gather: GatherOptions

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let opened = try gather.open(path, format: options.format, part: options.part)
        if opened.reader.metadata.contains(where: { $0.name == CheckpointDelta.metadataKey }), tensor.isEmpty, !stats {
            return try InspectedDelta(path: path).print(asJSON: options.json)
        }
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
        let quantised = opened.quantised(besides: path)
        let statistics = try stats ? gather(shown, from: opened.reader, quantised) : nil
        let report = InspectionReport(
            path: path, opened: opened, quantised: quantised, shown: shown, isSelection: !patterns.isEmpty,
            statistics: statistics, rankValues: rankValues(of: opened.reader),
            earlier: try EarlierParts(opened.stored))
        if options.json { try report.printDocument() } else { try report.printText() }
    }

    /// What single ranks had alone; their files may be damaged when the rest can be shown.
    private func rankValues(of reader: any CheckpointReader) -> [RankValues] {
        do throws(CairnError) {
            return try reader.rankValues()
        } catch {
            StandardError.note("the values of single ranks cannot be read: \(error)")
            return []
        }
    }

    private func gather(
        _ tensors: [TensorDescription], from reader: any CheckpointReader, _ quantised: QuantisedWeights
    ) throws -> [TensorStatistics?] {
        let blocks = TensorBlocks(reader)
        let bar = ProgressBar("reading", total: tensors.totalByteCount)
        defer { bar.finish() }
        return try tensors.map { tensor in
            // Codes are not numbers to have a mean.
            try quantised.areCodes(tensor.name) ? nil : TensorStatistics.gather(tensor, from: blocks, progress: bar.add)
        }
    }
}
