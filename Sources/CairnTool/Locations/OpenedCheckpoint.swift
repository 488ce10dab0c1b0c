import CairnBase
import CairnCheckpoint
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
    /// What is beside the files that were read.
    private let notes: [String]

    /// Opens what `text` names. For a run without a step that is the latest checkpoint, which is said on standard error.
    ///
    /// - Parameter part: Which of several saves in a file.
    /// - Throws: ``CairnError``: what was recognised is in its message.
    init(_ text: String, format: FormatName? = nil, part: Int? = nil) throws {
        let location = try Location(text)
        do {
            try self.init(location, format: format, part: part)
        } catch let error as CairnError {
            throw ForeignFile.explaining(error, opening: location.path)
        }
    }

    private init(_ location: Location, format: FormatName?, part: Int?) throws {
        let recognised = try CheckpointFormats.recognise(location.path, as: format)
        if part != nil, !recognised.format.hasParts {
            throw CairnError(
                .invalidArgument, "a part can be chosen of a file of torch.save only", .init(file: location.path))
        }
        guard let store = recognised.store else {
            try location.refuseSelector()
            let opened = try recognised.format.open(recognised.path, .init(part: part))
            let others = try opened.files.map { try LeftOutFiles.note(beside: $0, in: recognised.path) }
            self.init(opened.reader, recognised.format.title, recognised, notes: others ?? [])
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
        let opened = try CheckpointStore(path: path).open(step: step)
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
        stored: CairnReader? = nil, notes: [String] = []
    ) {
        self.reader = reader
        self.description = description
        self.recognised = recognised
        self.stored = stored
        self.notes = notes
        for entry in skippedEntries { StandardError.note("\(reader.source): \(entry)") }
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
