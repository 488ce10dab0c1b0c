import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage

/// `cairn verify`
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check that a checkpoint is whole and undamaged.",
        discussion: """
            Checks the structure of every file, that the fragments cover every tensor, and the checksums of the \
            description; with --deep every byte of data is read and checked against its checksum. Of a run, every \
            checkpoint is checked. Each damage is named: file, tensor and offset.

            What was checked stands in parentheses. "data" is data that was read, "checksums" that it was compared with \
            checksums; where there are none (safetensors, .npy, bare pickles, files of PyTorch before 1.6, most of HDF5) a \
            note says so: changed elements cannot be noticed there.

            Where `cairn protect` wrote parity, every protected file and the parity are checked too, and how much more may be \
            lost is said. With --deep all their bytes are read; that notices changes in any format.

            Exit code 0 when all is well, 1 when something is damaged, 2 when that could not be found out.

            Examples:
              cairn verify runs/kjv --deep
              cairn verify model.safetensors
            """)

    @Argument(help: "A run, a checkpoint, or a file or directory of another format.")
    var path: String

    @Flag(help: "Read all data and check every checksum, not only the description.")
    var deep = false

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let results = try CheckpointVerification.verify(path, format: options.format, part: options.part, deep: deep)
        let isWhole = results.allSatisfy { $0.damage.isEmpty }
        if options.json {
            try ResultDocument.print(
                schema: "cairn-verify/1",
                [
                    "ok": .bool(isWhole), "source": .string(path), "deep": .bool(deep),
                    "checkpoints": .array(results.map(document)),
                ])
        } else {
            if results.isEmpty { StandardError.note("\(path) holds no finished checkpoint") }
            for result in results { try printText(result) }
        }
        if !isWhole { throw Exit.answerIsNo }
    }

    private func document(_ result: CheckpointVerification) -> JSONValue {
        let damage = result.damage.map { damage -> JSONValue in
            [
                "file": .optional(damage.file), "tensor": .optional(damage.tensor),
                "offset": damage.offset.map { .count($0) } ?? .null,
                "chunk": damage.chunk.map { .count($0) } ?? .null, "message": .string(damage.message),
            ]
        }
        return [
            "source": .string(result.source), "format": .string(result.format),
            "step": result.step.map { .count($0) } ?? .null, "ok": .bool(result.damage.isEmpty),
            "checked": .strings(result.checked), "data_bytes": .count(result.dataByteCount),
            "bytes_without_checksum": .count(result.unsummedByteCount), "damage": .array(damage),
            "notes": .strings(result.notes), "protection": .array(result.protection.map(\.document)),
        ]
    }

    private func printText(_ result: CheckpointVerification) throws {
        let checked = result.checked.joined(separator: ", ")
        let outcome =
            result.damage.isEmpty
            ? Emphasis.good.apply("ok") + " (\(checked))" : Emphasis.bad.apply("damaged") + " (\(checked))"
        try StandardOutput.line("\(PrintableText.escape(result.source)): \(outcome)")
        for damage in result.damage {
            var words: [String] = []
            if let file = damage.file { words.append(file) }
            if let tensor = damage.tensor { words.append("tensor \"\(tensor)\"") }
            if let offset = damage.offset { words.append("offset \(offset)") }
            let text = words.isEmpty ? damage.message : words.joined(separator: ", ") + ": " + damage.message
            try StandardOutput.line("  " + PrintableText.escape(text))
        }
        for protection in result.protection {
            let advice = protection.isIntact ? "" : protection.isRepairable ? "; `cairn repair` brings back what is damaged" : ""
            try StandardOutput.line(
                "  protected by \(protection.parityCount) parity file\(protection.parityCount == 1 ? "" : "s"): "
                    + protection.summary + advice)
        }
        for note in result.notes { StandardError.note("\(result.source): \(note)") }
    }
}

/// What a look at one checkpoint found.
struct CheckpointVerification {
    /// Damage at one location of a checkpoint.
    struct Damage {
        var file: String?
        var tensor: String?
        var offset: Int?
        /// Which chunk of the tensor's fragment.
        var chunk: Int?
        var message: String
    }

    var source: String
    var format: String
    var step: Int?
    /// The run that it is of.
    var run: String?
    /// What was looked at: `structure`, `coverage`; `checksums of the description`, or `checksums` where those of data were
    /// compared too; `data`, where all of it was read.
    var checked: [String]
    /// How many bytes of data were read, and how many of them have no checksum to compare with.
    var dataByteCount = 0
    var unsummedByteCount = 0
    var damage: [Damage] = []
    var notes: [String] = []
    /// What parity says of the files.
    var protection: [ProtectionReport] = []

    /// Verifies what a path names; for a run without a step, each of its checkpoints.
    ///
    /// - Parameter protection: Whether parity is looked at too.
    /// - Throws: errors that do not mean damage: nothing there, no right to read, an unknown format or version.
    static func verify(
        _ text: String, format: FormatName?, part: Int? = nil, deep: Bool, protection: Bool = true
    ) throws -> [CheckpointVerification] {
        let location = try Location(text)
        do {
            var results = try verify(location, format: format, part: part, deep: deep)
            if protection {
                for index in results.indices { try results[index].lookAtParity(of: location.path, deep: deep) }
            }
            return results
        } catch let error as CairnError {
            let explained = ForeignFile.explaining(error, opening: location.path)
            // A file of which too little is left to tell its format by is damaged like any other.
            guard isDamage(explained), try PathInspection.kind(of: location.path) == .file else { throw explained }
            var result = CheckpointVerification(
                source: location.path, format: "unknown", step: nil, checked: ["structure"])
            result.damage.append(Damage(explained))
            if protection { try result.lookAtParity(of: location.path, deep: deep) }
            return [result]
        }
    }

    /// Adds what parity tells of the files.
    ///
    /// - Parameter path: What was verified: for a checkpoint of a run, the run or the checkpoint.
    private mutating func lookAtParity(of path: String, deep: Bool) throws {
        let found: [Protection]
        if let step, let run {
            found = try CheckpointStore(path: run).protection(ofStep: step).map { [$0] } ?? []
        } else {
            found = try ProtectedFiles.protections(of: path)
        }
        for one in found {
            let bar = ProgressBar("reading", total: deep ? one.workByteCount : 0)
            defer { bar.finish() }
            let report = try one.verify(deep: deep, progress: bar.add)
            protection.append(report)
            let named = Set(damage.compactMap(\.file))
            for (file, message) in report.flaws where !named.contains(file.shownLocation) {
                damage.append(
                    Damage(
                        file: file.shownLocation, tensor: nil, offset: file.damagedRanges.first?.lowerBound, chunk: nil,
                        message: message))
            }
        }
    }

    private static func verify(
        _ location: Location, format: FormatName?, part: Int?, deep: Bool
    ) throws -> [CheckpointVerification] {
        let recognised = try CheckpointFormats.recognise(location.path, as: format)
        guard let path = recognised.store else {
            try location.refuseSelector()
            return [try verify(recognised, part: part, deep: deep)]
        }
        if let step = recognised.step {
            try location.refuseSelector()
            return [try verify(CheckpointStore(path: path), step: step, path: path, deep: deep)]
        }
        guard let selector = location.selector else { return try verifyAll(of: path, deep: deep) }
        let store = CheckpointStore(path: path)
        let chosen = if case .step(let number) = selector { Optional(number) } else { try store.latest() }
        guard let chosen else {
            throw CairnError(.notFound, "the run has no finished checkpoint", .init(file: path))
        }
        return [try verify(store, step: chosen, path: path, deep: deep)]
    }

    private static func verifyAll(of path: String, deep: Bool) throws -> [CheckpointVerification] {
        let store = CheckpointStore(path: path)
        var results: [CheckpointVerification] = []
        for summary in try store.list() {
            // What checkpoints need of it is verified with them.
            if case .referenced = summary.state { continue }
            if case .debris = summary.state, try store.protection(ofStep: summary.step) == nil {
                StandardError.note(
                    "\(path)@\(summary.step) has no manifest and is not looked at: it was never finished, or `cairn repair` "
                        + "brings it back")
                continue
            }
            results.append(try verify(store, step: summary.step, path: path, deep: deep))
        }
        return results
    }

    private static func verify(
        _ store: CheckpointStore, step: Int, path: String, deep: Bool
    ) throws -> CheckpointVerification {
        var result = CheckpointVerification(
            source: "\(path)@\(step)", format: "cairn", step: step,
            checked: ["structure", "coverage"] + (deep ? ["checksums", "data"] : ["checksums of the description"]))
        result.run = path
        var read = 0
        var approximate = ApproximateTensors(nil)
        try result.collecting {
            let reader: CairnReader
            do throws(CairnError) {
                reader = try store.open(step: step)
            } catch {
                guard error.code == .notFound, try store.protection(ofStep: step) != nil else { throw error }
                let key = StepName.prefix(step) + CairnReader.manifestName
                return [
                    Damage(
                        file: store.storage.location(of: key), tensor: nil, offset: nil, chunk: nil,
                        message: "the manifest is lost")
                ]
            }
            approximate = ApproximateTensors(reader.manifest.lineage)
            let bar = ProgressBar("reading", total: reader.manifest.byteCount)
            defer { bar.finish() }
            let report = try reader.verify(deep: deep, progress: bar.add)
            read = report.byteCount
            return report.damages.map { Damage($0.error, chunk: $0.chunk) }
        }
        result.dataByteCount = read
        result.note(approximate)
        return result
    }

    private static func verify(
        _ recognised: RecognisedCheckpoint, part: Int?, deep: Bool
    ) throws -> CheckpointVerification {
        let format = recognised.format
        var result = CheckpointVerification(
            source: recognised.path, format: format.name, step: nil,
            checked: ["structure"] + (format.checksCoverage ? ["coverage"] : []))
        var report = VerificationReport()
        var approximate = ApproximateTensors(nil)
        try result.collecting {
            let reader: any CheckpointReader
            do {
                reader = try format.open(recognised.path, .init(part: part)).reader
            } catch let error as CairnError {
                // What is missing of protected files is damage, of which parity tells more.
                guard try !ProtectedFiles.protections(of: recognised.path).isEmpty else { throw error }
                return [Damage(error)]
            }
            approximate = ApproximateTensors(of: reader, lineage: nil)
            let stored = reader.tensors.filter { $0.tiedTo == nil }
            let bar = ProgressBar("reading", total: stored.totalByteCount)
            defer { bar.finish() }
            report = try reader.verify(deep: deep, progress: bar.add)
            return report.damages.map { Damage($0.error, chunk: $0.chunk) }
        }
        if deep { result.tell(report, format.withoutChecksums) }
        result.notes += report.notes
        result.note(approximate)
        return result
    }

    /// Says which tensors are not what training made: nothing that is stored can tell.
    private mutating func note(_ approximate: ApproximateTensors) {
        if !approximate.isEmpty { notes.append(approximate.text) }
    }

    /// Says what of the data was compared with checksums, and what has none.
    private mutating func tell(_ report: VerificationReport, _ reason: String) {
        dataByteCount = report.byteCount
        unsummedByteCount = report.unsummedByteCount
        if report.byteCount > report.unsummedByteCount { checked.append("checksums") }
        checked.append("data")
        guard report.unsummedByteCount > 0 else { return }
        let share = report.unsummedByteCount == report.byteCount ? "all" : "\(report.unsummedByteCount) of"
        notes.append(
            "\(share) \(report.byteCount) bytes of data have no checksums, so that changes in them cannot be noticed: \(reason)")
    }

    /// Adds the damage that `look` returns, or the error that it throws if that means damage.
    private mutating func collecting(_ look: () throws -> [Damage]) throws {
        do {
            damage += try look()
        } catch let error as CairnError {
            let explained = ForeignFile.explaining(error, opening: source)
            guard Self.isDamage(explained) else { throw explained }
            damage.append(Damage(explained))
        }
    }

    private static func isDamage(_ error: CairnError) -> Bool {
        error.code.isDamage || error.code == .mismatch
    }
}

extension CheckpointVerification.Damage {
    /// What an error says, without its location.
    fileprivate init(_ error: CairnError, chunk: Int? = nil) {
        var plain = error
        plain.context.file = nil
        plain.context.tensor = nil
        plain.context.offset = nil
        self.init(
            file: error.context.file, tensor: error.context.tensor, offset: error.context.offset,
            chunk: chunk, message: plain.description)
    }
}
