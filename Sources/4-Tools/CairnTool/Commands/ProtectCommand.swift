import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage

/// `cairn protect`
struct ProtectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "protect", abstract: "Write parity beside a checkpoint, from which lost and damaged files come back.",
        discussion: """
            Arranges the files in columns and writes --parity more files, from which as many columns come back: files that were \
            lost or cut off, or bytes that rotted. In every stripe of 256 KiB a column, as many blocks may be damaged. \
            `cairn verify` says how much more may be lost, `cairn repair` writes what is damaged anew.

            With whole files in columns (--layout files) as many files may be lost as there is parity, and each parity file is \
            as large as the largest column. One file, or one that is larger than all others together, is cut in eight ranges \
            instead: parity is small then, rot is repaired, and the loss of the whole file is not. --data K says how many \
            columns there are.

            A checkpoint is read and checked first. Of a checkpoint of a run the parity is in its directory and goes with it; \
            of anything else the files are NAME.cairn-parity-00 and so on, beside it. After files have been changed on purpose, \
            protect them anew (--force): parity brings back what was protected.

            Examples:
              cairn protect runs/kjv@400 --parity 2
              cairn protect model.safetensors --parity 2 --data 16
              cairn protect checkpoints/global_step1000 --parity 1
            """)

    @Argument(help: "A checkpoint of a run, or a file or directory of any format.")
    var path: String

    @Option(help: ArgumentHelp("How many columns may be lost: the number of parity files.", valueName: "m"))
    var parity = 2

    @Option(help: ArgumentHelp("How many columns the data is arranged in.", valueName: "k"))
    var data: Int?

    @Option(help: "Whole files in columns, or all files end to end cut in ranges.")
    var layout = LayoutName.auto

    @Flag(help: "Replace parity that is there already.")
    var force = false

    @Flag(help: "Print one JSON document instead of text (schema cairn-protect/1).")
    var json = false

    func validate() throws {
        if parity < 1 { throw ValidationError("--parity must be at least 1 (got \(parity))") }
        if let data, data < 1 { throw ValidationError("--data must be at least 1 (got \(data))") }
        if parity > 254 || (data ?? 1) > 255 - parity {
            throw ValidationError("--parity and --data together must be at most 255")
        }
    }

    func run() throws {
        let location = try Location(path)
        let source: String, protection: Protection
        var options = ProtectionOptions(parityCount: parity, columnCount: data, layout: layout.layout, replacing: force)
        if let (store, path, step) = try StoreOpening.checkpoint(location) {
            source = "\(path)@\(step)"
            try requireWhole(try CheckpointVerification.verify(source, format: .cairn, deep: true, protection: false))
            let bar = ProgressBar("protecting", total: try store.open(step: step).manifest.byteCount)
            defer { bar.finish() }
            options.progress = bar.add
            options.verifying = false
            protection = try store.protect(step: step, options: options)
        } else {
            try location.refuseSelector()
            source = location.path
            let files = try ProtectedFiles(path: location.path)
            // What no format knows is protected as it is.
            let results = try? CheckpointVerification.verify(location.path, format: nil, deep: true, protection: false)
            try requireWhole(results ?? [])
            let storage = LocalStorage(root: files.directory)
            var total = 0
            for name in files.names { total += try storage.open(name).byteCount }
            let bar = ProgressBar("protecting", total: total)
            defer { bar.finish() }
            options.progress = bar.add
            protection = try Protection.protect(files.names, in: storage, as: files.name, options: options)
        }
        try json ? printDocument(protection, source) : printText(protection, source)
    }

    /// Parity of what is damaged keeps the damage.
    private func requireWhole(_ results: [CheckpointVerification]) throws(CairnError) {
        for result in results {
            guard let damage = result.damage.first else { continue }
            throw CairnError(
                .corrupted, "the checkpoint is damaged, and parity would keep the damage: \(damage.message)",
                .init(
                    file: damage.file ?? result.source, tensor: damage.tensor, offset: damage.offset,
                    advice: "repair it first, or protect another"))
        }
    }

    private func printText(_ protection: Protection, _ source: String) throws {
        let parity = protection.parityCount
        try StandardOutput.line(
            PrintableText.escape(source)
                + ": protected; "
                + (parity < protection.columnCount ? "any \(parity) of \(protection.columnCount)" : "all")
                + " columns may be lost or damaged; "
                + "\(parity) parity file\(parity == 1 ? "" : "s") of \(ByteCountText.describe(protection.parityByteCount / parity))"
        )
        let cut = protection.fileNames.filter { protection.columnCount(ofFile: $0) ?? 0 > parity }
        if !cut.isEmpty {
            let shown = cut.prefix(4).joined(separator: ", ") + (cut.count > 4 ? ", …" : "")
            StandardError.note("\(source): damage in it is repaired, and not the loss of a whole file: \(shown)")
        }
    }

    private func printDocument(_ protection: Protection, _ source: String) throws {
        let files = protection.fileNames.map { name -> JSONValue in
            ["name": .string(name), "columns": .count(protection.columnCount(ofFile: name) ?? 0)]
        }
        try ResultDocument.print(
            schema: "cairn-protect/1",
            [
                "ok": .bool(true), "source": .string(source), "parity": .count(protection.parityCount),
                "columns": .count(protection.columnCount), "data_bytes": .count(protection.byteCount),
                "parity_bytes": .count(protection.parityByteCount), "files": .array(files),
                "parity_files": .strings(protection.parityFileNames),
            ])
    }
}
