import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnUniversal

/// A checkpoint that a path led to, with what only one format knows.
struct OpenedCheckpoint {
    let reader: any CheckpointReader
    /// What was opened, for people: `cairn, step 400`.
    let description: String
    /// What the path turned out to be, narrowed to the one checkpoint of a run; `nil` for what was made from others.
    let recognised: RecognisedCheckpoint?
    /// The commit record, for our own format.
    var manifest: Manifest? { stored?.manifest }
    /// The reader of our own format, if it is that.
    let stored: CairnReader?
    /// Which files of a directory are in it, where others may stand beside them.
    private let files: [String]?
    /// What is beside the files that were read.
    private let notes: [String]
    /// Tensors of missing files that the reader does not list.
    private(set) var absentTensors: [String] = []

    /// Opens what `text` names. For a run without a step that is the latest checkpoint, which is said on standard error.
    ///
    /// - Parameters:
    ///   - part: Which of several saves in a file.
    ///   - toleratesMissingFiles: Whether some of its files may be missing.
    /// - Throws: ``CairnError``: what was recognised is in its message.
    init(_ text: String, format: FormatName? = nil, part: Int? = nil, toleratesMissingFiles: Bool = false) throws {
        let location = try Location(text)
        do {
            try self.init(location, format: format, part: part, toleratesMissingFiles: toleratesMissingFiles)
        } catch let error as CairnError {
            throw ForeignFile.explaining(error, opening: location.path)
        }
    }

    private init(_ location: Location, format: FormatName?, part: Int?, toleratesMissingFiles: Bool) throws {
        let recognised = try CheckpointFormats.recognise(location.path, as: format)
        if part != nil, !recognised.format.hasParts {
            throw CairnError(
                .invalidArgument, "a part can be chosen of a file with several saves only",
                .init(
                    file: location.path,
                    expected: CheckpointFormats.known.formats.filter(\.hasParts).map(\.title).joined(separator: ", "),
                    found: recognised.format.title))
        }
        guard let store = recognised.store else {
            try location.refuseSelector()
            var options = CheckpointFormat.OpenOptions(part: part)
            options.toleratesMissingFiles = toleratesMissingFiles
            options.reading = try RepairedReading.reading(of: recognised.path, as: location.path)
            let opened = try recognised.format.open(recognised.path, options)
            let others = try opened.files.map { try LeftOutFiles.note(beside: $0, in: recognised.path) }
            self.init(opened.reader, recognised.format.title, recognised, files: opened.files, notes: others ?? [])
            absentTensors = opened.absentTensors
            return
        }
        switch (location.selector, recognised.step) {
        case (let selector?, nil):
            let step = if case .step(let step) = selector { step } else { try StoreOpening.newest(of: store) }
            try self.init(recognised, store: store, step: step)
        case (nil, let step?): try self.init(recognised, store: store, step: step)
        case (nil, nil):
            let latest = try StoreOpening.newest(of: store)
            StandardError.note("\(location.text): taking step \(latest), the latest of the run")
            try self.init(recognised, store: store, step: latest)
        case (_?, _?): throw location.selectorError
        }
    }

    /// Opens one checkpoint of a store.
    init(store path: String, step: Int) throws {
        try self.init(nil, store: path, step: step)
    }

    private init(_ recognised: RecognisedCheckpoint?, store path: String, step: Int) throws {
        let opened = try StoreOpening.reading(path).open(step: step)
        var claim = CheckpointFormat.Claim(path)
        claim.step = step
        self.init(
            opened, "cairn, step \(step)", RecognisedCheckpoint(format: recognised?.format ?? .cairn, claim: claim),
            stored: opened)
    }

    /// A reader that was made from the ranks' parts.
    init(gathered reader: any CheckpointReader) { self.init(reader, "shards gathered by rules", nil) }

    private init(
        _ reader: any CheckpointReader, _ description: String, _ recognised: RecognisedCheckpoint?,
        stored: CairnReader? = nil, files: [String]? = nil, notes: [String] = []
    ) {
        self.reader = reader
        self.description = description
        self.recognised = recognised
        self.stored = stored
        self.files = files
        self.notes = notes
        for entry in skippedEntries { StandardError.note("\(reader.source): \(entry)") }
    }

    /// The files that are read and must not be touched.
    ///
    /// - Parameter path: What was opened, for what was made from others.
    func sourceFiles(openedAt path: String) throws -> SourceFiles {
        guard let recognised else { return try SourceFiles(path: path) }
        guard let step = recognised.step else {
            return try SourceFiles(path: recognised.path, files: files, of: recognised.format)
        }
        return .step(store: PathInspection.canonical(recognised.path), step)
    }

    /// What is in the files and not in the reader: a sentence each.
    var skippedEntries: [String] { reader.skippedEntries + notes }

    /// The weights that are stored as codes, by the tensors and by the `config.json` beside the path that was opened.
    func quantised(besides text: String) -> QuantisedWeights {
        // A configuration that cannot be read says nothing; most checkpoints have none.
        let configuration = try? ModelConfigurationFile.beside(text)
        return QuantisedWeights(in: reader.tensors, configuration: configuration ?? nil)
    }

    /// - Throws: ``CairnError/Code/unsupported`` where there are tensors and none of them can be read: what is made of
    ///   that would be nothing.
    func checkNotEmpty() throws(CairnError) {
        guard reader.tensors.isEmpty, reader.skippedTensorCount > 0 else { return }
        throw CairnError(
            .unsupported, "no tensor of the checkpoint can be read, so that nothing is written",
            .init(file: reader.source, found: reader.skippedEntries.first))
    }

    /// The same with its partial tensors reduced.
    func reduced() throws -> any CheckpointReader {
        guard let stored else {
            throw CairnError(
                .invalidArgument, "only a checkpoint of a run has partial tensors to reduce",
                .init(file: reader.source, advice: "use rules to reduce partial tensors of foreign shards"))
        }
        return try ReducedReader(stored)
    }
}

/// A path as the user wrote it, taken apart: `runs/kjv@400` is the checkpoint of step 400 in the store `runs/kjv`.
struct Location: Sendable {
    /// Which checkpoint of a store.
    enum Selector: Sendable, Equatable {
        case latest
        case step(Int)
    }

    /// As the user wrote it, for messages.
    let text: String
    /// The path without the selector.
    let path: String
    let selector: Selector?

    /// Something that exists under the whole text wins over the reading with `@`.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when neither exists, ``CairnError/Code/invalidArgument`` for an invalid
    ///   selector.
    init(_ text: String) throws(CairnError) {
        self.text = text
        if try PathInspection.kind(of: text) != nil {
            path = text
            selector = nil
            return
        }
        guard let at = text.lastIndex(of: "@"), at > text.startIndex else {
            let isProtected = try? ProtectedFiles.protections(of: text).contains { try $0.verify(deep: false).isRepairable }
            throw CairnError(
                .notFound, "there is no such file or directory",
                .init(file: text, advice: isProtected == true ? "its parity is there: cairn repair \(text) brings it back" : nil))
        }
        let path = String(text[..<at])
        guard try PathInspection.kind(of: path) != nil else {
            throw CairnError(.notFound, "there is no such file or directory", .init(file: path))
        }
        let name = String(text[text.index(after: at)...])
        if name == "latest" {
            selector = .latest
        } else if let step = Int(name), step >= 0 {
            selector = .step(step)
        } else {
            throw CairnError(
                .invalidArgument, "this does not name a checkpoint of a run",
                .init(file: text, expected: "@latest or @ and a step", found: "@" + name))
        }
        self.path = path
    }

    /// What choosing a checkpoint of something else than a run is.
    var selectorError: CairnError {
        CairnError(
            .invalidArgument, "only a run has checkpoints to choose from with @", .init(file: path, expected: "a run"))
    }

    func refuseSelector() throws(CairnError) {
        if selector != nil { throw selectorError }
    }
}

/// Opens a run, for the commands that want all of it.
enum StoreOpening {
    /// The checkpoint of a run that is meant; `nil` for anything else.
    static func checkpoint(_ location: Location) throws -> (store: CheckpointStore, path: String, step: Int)? {
        guard let recognised = try CheckpointFormats.known.recognise(location.path), let path = recognised.store else {
            return nil
        }
        switch (location.selector, recognised.step) {
        case (.step(let step)?, nil), (nil, let step?): return (CheckpointStore(path: path), path, step)
        case (_?, _?): throw location.selectorError
        default:
            let latest = try newest(of: path)
            if location.selector == nil {
                StandardError.note("\(location.text): taking step \(latest), the latest of the run")
            }
            return (CheckpointStore(path: path), path, latest)
        }
    }

    /// The checkpoint of a run that an argument means.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for anything else than a run or a checkpoint of one.
    static func checkpoint(_ text: String) throws -> (store: CheckpointStore, path: String, step: Int) {
        guard let found = try checkpoint(try Location(text)) else {
            throw CairnError(
                .invalidArgument, "this is no checkpoint of a run", .init(file: text, expected: "RUN@STEP, or a run's directory"))
        }
        return found
    }

    /// A run, of whose protected checkpoints what is lost or damaged is read as it was, which is said on standard error.
    static func reading(_ path: String) throws(CairnError) -> CheckpointStore {
        let storage = LocalStorage(root: path)
        guard try storage.list("step-").contains(where: { Protection.isParity($0.key) }) else {
            return CheckpointStore(path: path)
        }
        return CheckpointStore(storage: RepairedReading.storage(storage, repairing: path), name: path)
    }

    /// The newest step of a run that is usable; newer ones that are not are named on standard error.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none at all, ``CairnError/Code/nothingUsable`` when all are of no
    ///   use.
    static func newest(of path: String) throws -> Int {
        let store = try reading(path)
        let (step, skipped) = try store.newestUsable()
        note(skipped, of: path)
        if let step { return step }
        guard skipped.isEmpty else { throw store.noneUsable(skipped) }
        throw CairnError(
            .notFound, "the run has no finished checkpoint",
            .init(file: path, advice: "`cairn ls` shows what is there"))
    }

    /// The steps of a run that are usable, ascending; those that are not are named on standard error.
    static func usableSteps(of store: CheckpointStore, path: String) throws -> [Int] {
        var steps: [Int] = []
        for summary in try store.list() {
            switch summary.state {
            case .committed: steps.append(summary.step)
            case .debris, .referenced: break
            case .damaged(let error): note([.init(step: summary.step, error: error)], of: path)
            case .quarantined(let quarantine):
                note([.init(step: summary.step, error: quarantine.error(in: store))], of: path)
            }
        }
        return steps
    }

    private static func note(_ skipped: [CheckpointStore.Skipped], of path: String) {
        for one in skipped { StandardError.note("\(path)@\(one.step) is skipped: \(one.error)") }
    }

    /// - Throws: ``CairnError/Code/unsupported`` when the path is something else.
    static func open(_ path: String) throws -> (store: CheckpointStore, path: String) {
        let recognised = try CheckpointFormats.recognise(path, as: .cairn)
        guard recognised.step == nil else {
            throw CairnError(
                .invalidArgument, "this is one checkpoint", .init(file: path, expected: "the directory of a run"))
        }
        let names = try PathInspection.names(in: path)
        guard names.isEmpty || names.contains(where: { StepName.step(ofKey: $0 + "/") != nil }) else {
            throw CairnError(
                .unsupported, "this is not a run",
                .init(
                    file: path, expected: "a directory with step-… directories in it",
                    found: names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")))
        }
        return (CheckpointStore(path: path), path)
    }
}

/// The `config.json` that lies beside a model, or in its directory.
enum ModelConfigurationFile {
    private static let greatestByteCount = 4 << 20

    /// Its path, if there is one.
    ///
    /// - Throws: As ``Location``.
    static func path(beside text: String) throws(CairnError) -> String? {
        let path = try Location(text).path
        let directory = try PathInspection.kind(of: path) == .directory ? path : PathInspection.split(path).directory
        let file = PathInspection.join(directory, ModelConfiguration.fileName)
        return try PathInspection.kind(of: file) == .file ? file : nil
    }

    /// What it says.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a file that is not one.
    static func beside(_ text: String) throws(CairnError) -> ModelConfiguration? {
        guard let file = try path(beside: text) else { return nil }
        let (directory, name) = PathInspection.split(file)
        return try ModelConfiguration(
            json: LocalStorage(root: directory).readAll(name, limit: greatestByteCount), file: file)
    }
}
