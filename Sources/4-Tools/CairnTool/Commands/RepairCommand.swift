import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnTensor

/// `cairn repair`
struct RepairCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "repair", abstract: "Bring back what a checkpoint lost.",
        discussion: """
            Where `cairn protect` wrote parity, lost, short and damaged files are written anew as they were, in any format, \
            parity included: as many damaged blocks of every stripe come back as there are parity files. Where more is lost, \
            nothing is written.

            Without parity, rebuilds a manifest that was lost or damaged from the rank files, which repeat what it said. Every byte of data \
            is read and checked first; a checkpoint of which a rank file is missing or damaged is refused and left as it is.

            Of a run, every checkpoint without a usable manifest is looked at. Saves that were cut off cannot be completed; \
            that is said, and is no failure.

            Of a safetensors file whose tensors do not begin where their types want to, --output says where an aligned copy \
            goes; the file itself stays.

            With --lost something trainable is made of a checkpoint of which layers are lost: --lost names them by a pattern, \
            or is auto for all that cannot be read. --from says what takes their place: neighbours is the weighted mean of \
            the layers around them (CheckFree), older:STEP what another checkpoint of the run has, copy:LAYER a copy of a layer, \
            init random numbers. The result goes to --output, its lineage names every tensor that is made up, and the \
            source stays as it is. What was not lost is copied byte for byte; moments of what is made up start from zero. \
            Docs/Merging.md has the formulas.

            Exit code 0 when nothing is left to repair, 1 when a manifest of the run stays damaged, 2 when the checkpoint that \
            was named could not be repaired.

            Examples:
              cairn repair runs/kjv@400
              cairn repair model.safetensors
              cairn repair runs/kjv/step-00000400 --json
              cairn repair odd.safetensors --output aligned.safetensors
              cairn repair runs/kjv@400 --lost auto --from neighbours -o runs/mended --to cairn
              cairn repair llama/ --lost 'model.layers.{8..11}.*' --from neighbours --weights equal -o mended.safetensors
            """)

    @Argument(
        help: "A run, one of its checkpoints, a protected file or directory, a safetensors file; with --lost any checkpoint.")
    var path: String

    @Option(help: ArgumentHelp("Which save to rebuild, where the folder holds whole ones of several.", valueName: "id"))
    var saveID: String?

    @Option(
        name: [.customShort("o"), .long],
        help: ArgumentHelp("Where the aligned copy of a safetensors file goes, or with --lost the result.", valueName: "dst"))
    var output: String?

    @Flag(help: "Replace what is there already.")
    var force = false

    @OptionGroup(title: "Lost layers") var loss: LostLayerOptions

    @OptionGroup var losses: LossOptions

    @Flag(help: "Print one JSON document instead of text (schema cairn-repair/1).")
    var json = false

    /// What became of one checkpoint.
    private struct StepRepair {
        var step: Int
        /// `rebuilt`, `repaired`, `intact`, or `unrepaired`.
        var state: String
        var message: String
        /// The number of rank files that the manifest was rebuilt from.
        var fileCount: Int?
        /// How the files were, where they are protected.
        var protection: ProtectionReport?
    }

    func validate() throws {
        if let saveID, SaveID(saveID) == nil { throw ValidationError("--save-id takes 32 hexadecimal digits") }
        if loss.isGiven, output == nil { throw ValidationError("--lost needs --output: the source stays as it is") }
        if loss.isGiven, saveID != nil { throw ValidationError("--lost goes without --save-id") }
        if let output, loss.isGiven { try loss.checkTarget(output) }
    }

    func run() throws {
        if let output, loss.isGiven {
            return try LostLayerRepair(path: path, output: output, options: loss, replaces: force, losses: losses, json: json)
                .run()
        }
        if output == nil, try repairByParity() { return }
        if let file = try safetensorsFile() { return try align(file) }
        guard output == nil else {
            throw CairnError(.invalidArgument, "--output goes with a safetensors file, or with --lost", .init(file: path))
        }
        let (store, path, step) = try target()
        var outcomes: [StepRepair] = []
        var isWhole = true
        if let step {
            outcomes.append(try repair(store, step))
        } else {
            for summary in try store.list() {
                do {
                    outcomes.append(try repair(store, summary.step))
                } catch let error as CairnError where error.code != .cancelled && error.code != .inputOutput {
                    if case .damaged = summary.state { isWhole = false }
                    outcomes.append(StepRepair(step: summary.step, state: "unrepaired", message: error.description))
                }
            }
        }
        if json {
            try printDocument(outcomes, path, isWhole)
        } else {
            if outcomes.isEmpty { StandardError.note("\(path) holds no checkpoints") }
            for outcome in outcomes {
                try StandardOutput.line(PrintableText.escape("\(path)@\(outcome.step): \(outcome.message)"))
            }
        }
        if !isWhole { throw Exit.answerIsNo }
    }

    /// The path where it names a safetensors file that is not part of a checkpoint of ours.
    private func safetensorsFile() throws -> String? {
        guard try PathInspection.kind(of: path) == .file,
            case let found = try CheckpointFormats.recognise(path), found.format.name == CheckpointFormat.safetensors.name,
            case let file = found.path, !path.hasSuffix(".index.json")
        else { return nil }
        let directory = PathInspection.split(PathInspection.split(PathInspection.canonical(file)).directory)
        return StepName.step(ofKey: directory.name + "/") == nil ? file : nil
    }

    private func align(_ file: String) throws {
        let state: String, message: String
        var notes: [String] = []
        switch try AlignmentRepair(path: file).run(output: output, replacing: force, strict: losses.strict) {
        case .intact: (state, message) = ("intact", "every tensor is aligned; nothing was written")
        case .copied(let count, let found):
            notes = found
            (state, message) = ("copied", "\(count) tensors were not aligned; they are in \(output ?? "")")
        }
        for note in notes { StandardError.note(note) }
        guard json else { return try StandardOutput.line(PrintableText.escape("\(file): \(message)")) }
        let outputPath: JSONValue = state == "copied" ? .string(output ?? "") : .null
        try ResultDocument.print(
            schema: "cairn-repair/1",
            [
                "ok": .bool(true), "file": .string(file), "state": .string(state), "output": outputPath,
                "message": .string(message), "notes": .strings(notes),
            ])
    }

    /// Repairs a protected file or directory that is not of a run.
    ///
    /// - Returns: Whether it is protected.
    private func repairByParity() throws -> Bool {
        let isFile = try PathInspection.kind(of: path) != .directory
        let directory = isFile ? PathInspection.split(path).directory : path
        let folder = PathInspection.split(PathInspection.canonical(directory)).name
        guard StepName.step(ofKey: folder + "/") == nil else { return false }
        let protections = try ProtectedFiles.protections(of: path)
        guard !protections.isEmpty else { return false }
        var reports: [ProtectionReport] = []
        for protection in protections { reports.append(try repair(protection)) }
        if json {
            try ResultDocument.print(
                schema: "cairn-repair/1",
                ["ok": .bool(true), "path": .string(path), "protection": .array(reports.map(\.document))])
        } else {
            for report in reports { try StandardOutput.line(PrintableText.escape("\(path): \(Self.message(report))")) }
        }
        return true
    }

    private func repair(_ protection: Protection) throws -> ProtectionReport {
        let bar = ProgressBar("repairing", total: protection.workByteCount)
        defer { bar.finish() }
        return try protection.repair(progress: bar.add)
    }

    private static func message(_ report: ProtectionReport) -> String {
        let written = report.files.filter { $0.state != .intact }
        guard !written.isEmpty else { return "every protected file is as it was" }
        let names = written.prefix(8).map { "\(PathInspection.split($0.location).name) (\($0.state.rawValue))" }
        return "\(written.count) file\(written.count == 1 ? " was" : "s were") brought back by parity: "
            + names.joined(separator: ", ") + (written.count > 8 ? ", …" : "")
    }

    private func repair(_ store: CheckpointStore, _ step: Int) throws -> StepRepair {
        do {
            if let protection = try store.protection(ofStep: step) {
                let bar = ProgressBar("repairing", total: protection.workByteCount)
                defer { bar.finish() }
                if let report = try store.repair(step: step, progress: bar.add) {
                    return StepRepair(
                        step: step, state: report.isIntact ? "intact" : "repaired", message: Self.message(report),
                        protection: report)
                }
            }
        } catch let error as CairnError where error.code == .incomplete {
            // More is lost than parity brings back; the rank files may all be there.
            guard (try? store.open(step: step)) == nil else { throw error }
        }
        if (try? store.open(step: step)) != nil {
            return StepRepair(
                step: step, state: "intact",
                message: "the manifest is whole, and nothing else can be repaired; `cairn verify --deep` reads the data")
        }
        let bar = ProgressBar("reading", total: try store.list().first { $0.step == step }?.byteCount ?? 0)
        defer { bar.finish() }
        let manifest = try store.rebuildManifest(step: step, saveID: saveID.flatMap { SaveID($0) }, progress: bar.add)
        let count = manifest.files.count
        return StepRepair(
            step: step, state: "rebuilt", message: "the manifest was rebuilt from \(count) rank file\(count == 1 ? "" : "s")",
            fileCount: count)
    }

    /// The run, and the one checkpoint that was named.
    private func target() throws -> (store: CheckpointStore, path: String, step: Int?) {
        let location = try Location(path)
        switch location.selector {
        case .step(let step)?: return (CheckpointStore(path: location.path), location.path, step)
        case .latest?:
            let store = CheckpointStore(path: location.path)
            guard let latest = try store.latest() else {
                throw CairnError(
                    .notFound, "the run has no finished checkpoint", .init(file: location.path, expected: "@ and a step"))
            }
            return (store, location.path, latest)
        case nil: break
        }
        var parts = PathInspection.split(PathInspection.canonical(location.path))
        if try PathInspection.kind(of: location.path) == .file { parts = PathInspection.split(parts.directory) }
        if let step = StepName.step(ofKey: parts.name + "/") {
            return (CheckpointStore(path: parts.directory), parts.directory, step)
        }
        let (store, path) = try StoreOpening.open(location.path)
        return (store, path, nil)
    }

    private func printDocument(_ outcomes: [StepRepair], _ path: String, _ isWhole: Bool) throws {
        let checkpoints = outcomes.map { outcome -> JSONValue in
            [
                "step": .count(outcome.step), "state": .string(outcome.state),
                "rank_files": outcome.fileCount.map { .count($0) } ?? .null, "message": .string(outcome.message),
                "protection": outcome.protection?.document ?? .null,
            ]
        }
        try ResultDocument.print(
            schema: "cairn-repair/1",
            ["ok": .bool(isWhole), "store": .string(path), "checkpoints": .array(checkpoints)])
    }
}

/// Copies of safetensors files whose tensors do not begin where their types want to: they are valid, but cannot be mapped
/// into memory as they are, and some readers refuse them.
struct AlignmentRepair {
    let path: String

    /// How a file is, or became.
    enum Alignment {
        case intact
        /// So many tensors were moved.
        case copied(tensorCount: Int, notes: [String])
    }

    /// Writes an aligned copy if the file needs one.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when it does and no output is given.
    func run(output: String?, replacing: Bool, strict: Bool) throws -> Alignment {
        let misaligned = try Self.misaligned(in: path)
        guard !misaligned.isEmpty else { return .intact }
        guard let output else {
            throw CairnError(
                .invalidArgument, "\(misaligned.count) tensors are not aligned to their types, the first is \"\(misaligned[0])\"",
                .init(file: path, advice: "say --output for an aligned copy; the file itself stays as it is"))
        }
        guard PathInspection.canonical(output) != PathInspection.canonical(path) else {
            throw CairnError(
                .invalidArgument, "the copy would be written over the file", .init(file: output, advice: "choose another path"))
        }
        let reader = try CheckpointFormat.safetensors.open(path, .init()).reader
        var texts: [String: String] = [:]
        for text in reader.metadata {
            if case .string(let value) = text.value { texts[text.name] = value }
        }
        let writer = try SafeTensorsWriter(path: output, metadata: texts, replaces: replacing)
        Interruption.watch()
        let notes = try ShownCopy.run(from: reader, to: writer, "copying", strict: strict)
        return .copied(tensorCount: misaligned.count, notes: notes)
    }

    /// The tensors that do not begin at a multiple of their elements' size in the file, in its order.
    private static func misaligned(in path: String) throws(CairnError) -> [String] {
        let (storage, key) = try LocalStorage.locate(path)
        let header = try SafeTensorsHeader.read(from: storage.open(key))
        return header.entries.filter { entry in
            let width = entry.scalarType.byteWidth ?? 1
            return !entry.byteRange.isEmpty && !(header.dataStart + entry.byteRange.lowerBound).isMultiple(of: width)
        }.map(\.name)
    }
}
