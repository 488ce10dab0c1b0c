import ArgumentParser
import CairnBase
import CairnCheckpoint

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
            "notes": .strings(result.notes),
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
        for note in result.notes { StandardError.note("\(result.source): \(note)") }
    }
}
