import CairnBase
public import CairnTensor

/// How a whole checkpoint is brought into memory.
public struct LoadOptions: Sendable {
    /// The names to load; `nil` for all. A name that the checkpoint lacks is an error.
    public var names: [String]?
    /// Map the file where that is possible instead of reading it: milliseconds whatever the size, bytes read as they are
    /// touched, and *not verified*. Tensors that cannot be mapped are read.
    public var mapped = false
    /// Where tensors take their memory from.
    public var pool: BufferPool?
    /// How many threads read.
    public var concurrency = ThreadPool.usefulReadCount
    /// Called from any reading thread with the number of bytes just read; throwing stops the load.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    public init() {}
}

extension TrainingState {
    /// Reads a checkpoint of any format into memory, verifying whatever checksums it has.
    ///
    /// Values and ties come with it; with ``LoadOptions/names`` only those named do, and a tie whose target is not named
    /// becomes a tensor of its own. Values that single ranks had alone have no place here: ``skippedEntries`` names them.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a name that is not there; the reader's errors.
    public init(reading reader: any CheckpointReader, options: LoadOptions = LoadOptions()) throws {
        self.init()
        let wanted = options.names.map { Set($0.map(ExactString.init)) }
        func isWanted(_ name: String) -> Bool { wanted?.contains(ExactString(name)) ?? true }
        let descriptions = reader.tensors.filter { isWanted($0.name) }
        let values = reader.values.filter { isWanted($0.name) }
        if let wanted {
            let found = Set(descriptions.map { ExactString($0.name) } + values.map { ExactString($0.name) })
            if let missing = wanted.subtracting(found).min() {
                throw CairnError(
                    .notFound, "the checkpoint has no tensor or value of this name",
                    .init(file: reader.source, tensor: missing.string))
            }
        }
        let loaded = Set(descriptions.map { ExactString($0.name) })
        let tensors = try ParallelLoad(reader, options).tensors(
            descriptions.filter { $0.tiedTo.map { !loaded.contains(ExactString($0)) } ?? true })
        for description in descriptions {
            if let tensor = tensors[ExactString(description.name)] {
                set(tensor, for: description.name)
            } else if let target = description.tiedTo {
                tie(description.name, to: target)
            }
        }
        for value in values { set(value.value, for: value.name) }
        // A caller that names what to load has left the rest out.
        if wanted == nil, let note = try reader.rankValues().lossNote { skippedEntries.append(note) }
    }
}

/// Reads many tensors at once.
private struct ParallelLoad {
    private let reader: any CheckpointReader
    private let options: LoadOptions

    init(_ reader: any CheckpointReader, _ options: LoadOptions) {
        self.reader = reader
        self.options = options
    }

    func tensors(_ descriptions: [TensorDescription]) throws -> [ExactString: Tensor] {
        var tensors: [ExactString: Tensor] = [:]
        var requests: [RegionRequest] = []
        for description in descriptions {
            if options.mapped, let tensor = try reader.mapped(description.name) {
                tensors[ExactString(description.name)] = tensor
                continue
            }
            // Asked before memory is taken: a reader that lacks the tensor's bytes says so here.
            try reader.requireStored(description.name)
            let storage = TensorStorage(
                byteCount: try Tensor.byteCount(description.scalarType, description.shape), pool: options.pool)
            let memory = UnsafeMutableRawBufferPointer(start: storage.base, count: storage.byteCount)
            requests.append(
                RegionRequest(
                    description.name,
                    ReadTarget(whole: description.shape, of: description.scalarType, memory: memory)))
            tensors[ExactString(description.name)] = Tensor(
                storage: storage, byteOffset: 0, description.scalarType, description.shape,
                byteCount: storage.byteCount)
        }
        let bulk = BulkReadOptions(concurrency: options.concurrency, progress: options.progress)
        try withExtendedLifetime(tensors) { try reader.read(requests, options: bulk) }
        return tensors
    }
}
