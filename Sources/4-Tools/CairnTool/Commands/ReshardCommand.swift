import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnReshard

/// `cairn reshard`
struct ReshardCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reshard", abstract: "Write a checkpoint as the ranks of another mesh would have saved it.",
        discussion: """
            DST is a run's directory; --step says which checkpoint. It gets a file for each rank of the mesh. Loading \
            under other layouts needs none of this: a rank reads what it needs of any checkpoint. Resharding beforehand \
            is for many loads of one checkpoint, and for jobs whose ranks see only their own files.

            The source is read once, memory stays small whatever the size, nothing is replaced without --force, and an \
            interrupted or failed run leaves nothing that looks like a checkpoint.

            Examples:
              cairn reshard runs/kjv@400 runs/kjv-8 --mesh dp=4,tp=2 --rules layouts.yaml
              cairn reshard model.safetensors runs/model --mesh dp=8 --layout fsdp --step 0
            """)

    @Argument(help: ArgumentHelp("A run, a checkpoint, or a file or directory of another format.", valueName: "src"))
    var source: String

    @Argument(help: ArgumentHelp("The directory of the run to write to.", valueName: "dst"))
    var destination: String

    @OptionGroup var layouts: LayoutSelection

    @Flag(help: "Sum or average the partial tensors that the ranks of SRC saved.")
    var reduce = false

    @Option(help: "The step of the new checkpoint. Default: the source's step, or 0.")
    var step: Int?

    @OptionGroup var compressing: CompressionOptions

    @Flag(help: "Replace a checkpoint that is there already.")
    var force = false

    @OptionGroup var losses: LossOptions

    @OptionGroup var options: ReadingOptions

    func validate() throws {
        if let step, step < 0 { throw ValidationError("--step must not be negative (got \(step))") }
    }

    func run() throws {
        let location = try Location(source)
        let opened = try OpenedCheckpoint(source, format: options.format, part: options.part)
        try opened.checkNotEmpty()
        let reader = try reduce ? opened.reduced() : opened.reader
        let flattened = LossOptions.flattened(reader)
        try losses.check(opened.skippedEntries + flattened)
        var target = Destination(path: destination, format: .run, options: .init())
        target.options.replaces = force
        target.options.compression = compressing.compression
        target.options.step = step ?? opened.manifest?.step ?? 0
        target.options.metrics = opened.manifest?.metrics ?? [:]
        target.options.lineage = Lineage(
            operation: "reshard",
            parents: [.init(step: opened.manifest?.step, saveID: opened.manifest?.saveID, source: location.path)])
        try target.check(reading: opened.sourceFiles(openedAt: location.path))
        let resharder = try Resharder(reading: reader, tensors: layouts.tensors(of: reader))
        let ownSkippedEntries = try resharder.skippedEntries
        try losses.check(ownSkippedEntries)
        let skippedEntries = opened.skippedEntries + ownSkippedEntries
        for entry in ownSkippedEntries { StandardError.note("\(source): \(entry)") }
        Interruption.watch()
        let bar = ProgressBar("resharding", total: resharder.byteCount)
        var settings = Resharder.Options()
        settings.strict = losses.strict
        settings.save = SaveOptions(target.options)
        settings.save.progress = { count in
            try Interruption.check()
            bar.add(count)
        }
        let manifest: Manifest
        do {
            defer { bar.finish() }
            manifest = try resharder.write(to: CheckpointStore(path: destination), step: target.options.step, options: settings)
        }
        let lost = flattened + resharder.losses.map(\.description)
        let aside = manifest.setAside.map { ["\($0.warning)"] } ?? []
        for note in lost + aside { StandardError.note(note) }
        try report(manifest, resharder.byteCount, skippedEntries + lost + aside)
    }

    private func report(_ manifest: Manifest, _ byteCount: Int, _ notes: [String]) throws {
        let mesh = layouts.mesh.mesh
        guard options.json else {
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(destination)@\(manifest.step): \(NumberText.count(manifest.tensors.count, "tensor")), "
                        + "\(ByteCountText.describe(byteCount)) in \(NumberText.count(manifest.files.count, "file")) for the mesh \(mesh)"
                ))
            return
        }
        try ResultDocument.print(
            schema: "cairn-reshard/1",
            [
                "source": .string(source), "destination": .string(destination), "step": .count(manifest.step),
                "mesh": .string("\(mesh)"), "ranks": .count(manifest.files.count),
                "tensors": .count(manifest.tensors.count), "values": .count(manifest.values.count),
                "bytes": .count(byteCount), "file_bytes": .array(manifest.files.map { .count($0.byteCount) }),
                "notes": .strings(notes),
            ])
    }
}
