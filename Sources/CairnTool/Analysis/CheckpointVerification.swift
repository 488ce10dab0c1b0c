import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnStorage

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
    /// What was looked at: `structure`, `coverage`; `checksums of the description`, or `checksums` where those of data were
    /// compared too; `data`, where all of it was read.
    var checked: [String]
    /// How many bytes of data were read, and how many of them have no checksum to compare with.
    var dataByteCount = 0
    var unsummedByteCount = 0
    var damage: [Damage] = []
    var notes: [String] = []

    /// Verifies what a path names; for a run without a step, each of its checkpoints.
    ///
    /// - Throws: errors that do not mean damage: nothing there, no right to read, an unknown format or version.
    static func verify(
        _ text: String, format: FormatName?, part: Int? = nil, deep: Bool
    ) throws -> [CheckpointVerification] {
        let location = try Location(text)
        do {
            return try verify(location, format: format, part: part, deep: deep)
        } catch let error as CairnError {
            let explained = ForeignFile.explaining(error, opening: location.path)
            // A file of which too little is left to tell its format by is damaged like any other.
            guard isDamage(explained), try PathInspection.kind(of: location.path) == .file else { throw explained }
            var result = CheckpointVerification(
                source: location.path, format: "unknown", step: nil, checked: ["structure"])
            result.damage.append(Damage(explained))
            return [result]
        }
    }

    private static func verify(
        _ location: Location, format: FormatName?, part: Int?, deep: Bool
    ) throws -> [CheckpointVerification] {
        switch try RecognisedFormat(of: location.path, forced: format) {
        case .store(let path) where location.selector == nil:
            return try verifyAll(of: path, deep: deep)
        case .store(let path):
            let store = CheckpointStore(path: path)
            var step: Int?
            if case .step(let number) = location.selector { step = number } else { step = try store.latest() }
            guard let step else {
                throw CairnError(.notFound, "the run has no finished checkpoint", .init(file: path))
            }
            return [try verify(store, step: step, path: path, deep: deep)]
        case .checkpoint(let path, let step) where location.selector == nil:
            return [try verify(CheckpointStore(path: path), step: step, path: path, deep: deep)]
        case .safetensors(let path) where location.selector == nil:
            return [try verifySafetensors(path, deep: deep)]
        case .torch(let path) where location.selector == nil:
            return [
                try verify("torch", path, ["structure"], deep: deep) { try TorchReader(path: path, part: part) }
            ]
        case .deepspeed(let path) where location.selector == nil:
            return [
                try verify("deepspeed", path, ["structure", "coverage"], deep: deep) { try DeepSpeedReader(path: path) }
            ]
        case .distributed(let path) where location.selector == nil:
            return [
                try verify("dcp", path, ["structure", "coverage"], deep: deep) {
                    try DistributedCheckpointReader(path: path)
                }
            ]
        case .hdf5(let path) where location.selector == nil:
            return [try verify("hdf5", path, ["structure"], deep: deep) { try HDF5Reader(path: path) }]
        case .keras(let path) where location.selector == nil:
            return [try verify("keras", path, ["structure"], deep: deep) { try KerasReader(path: path) }]
        case .numpy(let path) where location.selector == nil:
            return [try verify("numpy", path, ["structure"], deep: deep) { try NumPyReader(path: path) }]
        default:
            throw CairnError(
                .invalidArgument, "only a run has checkpoints to choose from with @",
                .init(file: location.path, expected: "a run"))
        }
    }

    private static func verifyAll(of path: String, deep: Bool) throws -> [CheckpointVerification] {
        let store = CheckpointStore(path: path)
        var results: [CheckpointVerification] = []
        for summary in try store.list() {
            if case .debris = summary.state {
                StandardError.note("\(path)@\(summary.step) was never finished and is not looked at")
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
        var read = 0
        try result.collecting {
            let reader = try store.open(step: step)
            let bar = ProgressBar("reading", total: reader.manifest.byteCount)
            defer { bar.finish() }
            let report = try reader.verify(deep: deep, progress: bar.add)
            read = report.byteCount
            return report.damages.map { Damage($0.error, chunk: $0.chunk) }
        }
        result.dataByteCount = read
        return result
    }

    private static func verify(
        _ format: String, _ path: String, _ checked: [String], deep: Bool,
        opening open: () throws -> any CheckpointReader
    ) throws -> CheckpointVerification {
        var result = CheckpointVerification(source: path, format: format, step: nil, checked: checked)
        var report = VerificationReport()
        try result.collecting {
            let reader = try open()
            let stored = reader.tensors.filter { $0.tiedTo == nil }
            let bar = ProgressBar("reading", total: stored.totalByteCount)
            defer { bar.finish() }
            report = try reader.verify(deep: deep, progress: bar.add)
            return report.damages.map { Damage($0.error, chunk: $0.chunk) }
        }
        if deep { result.tell(report) }
        result.notes += report.notes
        return result
    }

    /// Says what of the data was compared with checksums, and what has none.
    private mutating func tell(_ report: VerificationReport) {
        dataByteCount = report.byteCount
        unsummedByteCount = report.unsummedByteCount
        if report.byteCount > report.unsummedByteCount { checked.append("checksums") }
        checked.append("data")
        guard report.unsummedByteCount > 0 else { return }
        let reason =
            switch format {
            case "hdf5", "keras": "only chunks with a Fletcher-32 filter have them"
            case "numpy": "the file has none, or its archive leaves them out"
            case "dcp": "safetensors, and archives that leave them out, have none"
            default: "files of before PyTorch 1.6, bare pickles, and archives that leave them out have none"
            }
        let share = report.unsummedByteCount == report.byteCount ? "all" : "\(report.unsummedByteCount) of"
        notes.append(
            "\(share) \(report.byteCount) bytes of data have no checksums, so that changes in them cannot be noticed: \(reason)")
    }

    private static func verifySafetensors(_ path: String, deep: Bool) throws -> CheckpointVerification {
        var result = CheckpointVerification(
            source: path, format: "safetensors", step: nil, checked: ["structure"] + (deep ? ["data"] : []),
            notes: ["safetensors has no checksums: elements that were changed cannot be noticed"])
        var read = 0
        try result.collecting {
            let reader = try OpenedCheckpoint.safetensors(path)
            guard deep else { return [] }
            let blocks = TensorBlocks(reader)
            let stored = reader.tensors.filter { $0.tiedTo == nil }
            let bar = ProgressBar("reading", total: stored.totalByteCount)
            defer { bar.finish() }
            for tensor in stored {
                for region in blocks.regions(of: tensor) {
                    try blocks.withBlock(tensor, region) {
                        bar.add($0.count)
                        read += $0.count
                    }
                }
            }
            return []
        }
        (result.dataByteCount, result.unsummedByteCount) = (read, read)
        return result
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
        [.corrupted, .malformed, .incomplete, .mismatch].contains(error.code)
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
