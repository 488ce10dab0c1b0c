import CairnBase
import CairnCheckpoint
import CairnMerge

extension MergeOutput {
    /// Writes a merge and reports it.
    ///
    /// - Parameters:
    ///   - metrics: Numbers to go with it, for our own format.
    ///   - schema: What the JSON document calls itself, such as `cairn-average/1`.
    func write(
        _ merged: MergedCheckpoint, of sources: [MergeSource], schema: String, metrics: [String: Double] = [:]
    ) throws {
        try write(
            merged, lineage: merged.lineage, notes: merged.notes, of: sources, schema: schema, metrics: metrics)
    }

    /// The same of any reader.
    func write(
        _ reader: any CheckpointReader, lineage: Lineage, notes: [String], of sources: [MergeSource], schema: String,
        metrics: [String: Double] = [:], facts: JSONObject = JSONObject()
    ) throws {
        var destination = Destination(path: output, format: target, options: .init())
        destination.options.replaces = force
        destination.options.compression = compressing.compression
        destination.options.maximumShardByteCount = maxShardSize.byteCount
        destination.options.step = step ?? sources.first?.manifest?.step ?? 0
        destination.options.metrics = metrics
        destination.options.lineage = lineage
        destination.options.metadata = ["cairn.lineage": try lineage.text()]
        try checkPatterns(of: sources)
        var notes = notes
        for source in sources.reversed() {
            if let note = source.note, !notes.contains(note) { notes.insert(note, at: 0) }
        }
        for source in sources { try destination.check(reading: source.files) }
        let writer = try destination.writer()
        let left = sources.flatMap(\.skippedEntries)
        try losses.check(left)
        for note in notes { StandardError.note(note) }
        Interruption.watch()
        let byteCount = reader.tensors.lazy.filter { $0.tiedTo == nil }.totalByteCount
        let bar = ProgressBar("merging", total: byteCount)
        let skippedEntries: [String]
        do {
            defer { bar.finish() }
            var before = 0
            skippedEntries = try copyCheckpoint(
                from: reader, to: InterruptibleWriter(writer), strict: losses.strict
            ) { written, _ in
                bar.add(written - before)
                before = written
            }
        }
        for entry in skippedEntries { StandardError.note(entry) }
        try report(reader, destination, lineage, notes + left + skippedEntries, byteCount, schema, facts)
    }

    private func report(
        _ reader: any CheckpointReader, _ destination: Destination, _ lineage: Lineage, _ notes: [String],
        _ byteCount: Int, _ schema: String, _ facts: JSONObject
    ) throws {
        let written = target.isRun ? "\(output)@\(destination.options.step)" : output
        guard json else {
            try StandardOutput.line(
                PrintableText.escape(
                    "wrote \(written) (\(target.name)): \(reader.tensors.count) tensors, "
                        + "\(ByteCountText.describe(byteCount)), \(LineageText.describe(lineage))"))
            return
        }
        var document: JSONObject = [
            "destination": .string(output), "format": .string(target.name),
            "step": target.isRun ? .count(destination.options.step) : .null, "tensors": .count(reader.tensors.count),
            "values": .count(reader.values.count), "bytes": .count(byteCount), "lineage": .lineage(lineage),
            "notes": .strings(notes),
        ]
        for member in facts.members { document[member.key] = member.value }
        try ResultDocument.print(schema: schema, document)
    }
}
