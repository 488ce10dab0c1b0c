import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnStorage
import CairnUniversal

/// A checkpoint that a path led to, with what only one format knows.
struct OpenedCheckpoint {
    let reader: any CheckpointReader
    /// What was opened, for people: `cairn, step 400`.
    let description: String
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
        let text = location.text
        let recognised = try RecognisedFormat(of: location.path, forced: format)
        if part != nil {
            guard case .torch = recognised else {
                throw CairnError(
                    .invalidArgument, "a part can be chosen of a file of torch.save only", .init(file: location.path))
            }
        }
        switch (recognised, location.selector) {
        case (.store(let path), .step(let step)?):
            try self.init(store: path, step: step)
        case (.store(let path), let selector):
            let latest = try StoreOpening.newest(of: path)
            if selector == nil { StandardError.note("\(text): taking step \(latest), the latest of the run") }
            try self.init(store: path, step: latest)
        case (.checkpoint(let store, let step), nil):
            try self.init(store: store, step: step)
        case (.safetensors(let path), nil):
            let others = try LeftOutFiles.note(besideSafetensorsIn: path)
            self.init(reader: try Self.safetensors(path), description: "safetensors", notes: others)
        case (.torch(let path), nil):
            let reader = try TorchReader(path: path, part: part)
            let others = try LeftOutFiles.note(beside: reader.files, in: path)
            self.init(reader: reader, description: "torch.save", notes: others)
        case (.distributed(let path), nil):
            let reader = try DistributedCheckpointReader(path: path)
            self.init(reader: reader, description: "torch.distributed.checkpoint")
        case (.deepspeed(let path), nil):
            self.init(reader: try DeepSpeedReader(path: path), description: "DeepSpeed")
        case (.hdf5(let path), nil):
            self.init(reader: try HDF5Reader(path: path), description: "HDF5")
        case (.keras(let path), nil):
            self.init(reader: try KerasReader(path: path), description: "Keras")
        case (.numpy(let path), nil):
            self.init(reader: try NumPyReader(path: path), description: "NumPy")
        case (_, _?):
            throw CairnError(
                .invalidArgument, "only a run has checkpoints to choose from with @",
                .init(file: location.path, expected: "a run"))
        }
    }

    /// Opens safetensors; an error names the file by its path and not only by its name.
    static func safetensors(_ path: String) throws(CairnError) -> SafeTensorsReader {
        do throws(CairnError) {
            return try SafeTensorsReader(path: path)
        } catch {
            guard let file = error.context.file, file != path, !file.hasPrefix("/") else { throw error }
            let isDirectory = try PathInspection.kind(of: path) == .directory
            var located = error
            located.context.file = PathInspection.join(isDirectory ? path : PathInspection.split(path).directory, file)
            throw located
        }
    }

    /// Opens one checkpoint of a store.
    init(store path: String, step: Int) throws {
        let opened = try CheckpointStore(path: path).open(step: step)
        self.init(reader: opened, description: "cairn, step \(step)", stored: opened)
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

    /// A reader that was made from others.
    init(gathered reader: any CheckpointReader) {
        self.init(reader: reader, description: "shards gathered by rules")
    }

    private init(
        reader: any CheckpointReader, description: String, stored: CairnReader? = nil, notes: [String] = []
    ) {
        self.reader = reader
        self.description = description
        self.stored = stored
        self.notes = notes
        for entry in skippedEntries { StandardError.note("\(reader.source): \(entry)") }
    }
}

/// Opens a run, for the commands that want all of it.
enum StoreOpening {
    /// The newest step of a run that is usable; newer ones that are not are named on standard error.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none at all, ``CairnError/Code/nothingUsable`` when all are of no
    ///   use.
    static func newest(of path: String) throws -> Int {
        let store = CheckpointStore(path: path)
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
            case .debris: break
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
        guard case .store(let path) = try RecognisedFormat(of: path, forced: .cairn) else {
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
