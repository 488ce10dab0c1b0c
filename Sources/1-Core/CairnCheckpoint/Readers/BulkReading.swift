import CairnBase
public import CairnTensor

/// A region of a tensor that is to be read to a place in memory, together with others.
public struct RegionRequest: Sendable {
    /// The tensor.
    package let name: String
    /// What is wanted of it.
    package var region: Region { target.region }
    package var target: ReadTarget

    package init(_ name: String, _ target: ReadTarget) {
        self.name = name
        self.target = target
    }

    /// The same of a tensor of another name: what a view asks of the reader that it is a view of.
    package func renamed(_ name: String) -> RegionRequest { RegionRequest(name, target) }
}

/// How many regions are read at once.
public struct BulkReadOptions: Sendable {
    /// How many threads read.
    package var concurrency: Int
    /// Called from any reading thread with the number of bytes just read; throwing stops.
    package var progress: @Sendable (Int) throws -> Void

    /// As many threads as the machine can use.
    @usableFromInline package static let defaultConcurrency = ThreadPool.usefulReadCount

    package init(
        concurrency: Int = BulkReadOptions.defaultConcurrency, progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) {
        self.concurrency = concurrency
        self.progress = progress
    }
}

/// The most bytes that one thread reads at a time.
package let readBlockByteCount = 8 << 20

extension CheckpointReader {
    /// Reads requests one region after the other, large ones in slabs so that the extra memory stays bounded: for formats that
    /// have nothing better.
    package func readByRegion(_ requests: [RegionRequest], _ options: BulkReadOptions) throws {
        var work: [RegionRequest] = []
        for request in requests where request.region.elementCount > 0 {
            let view = ReaderView(self, try description(of: request.name))
            for part in view.slabs(of: request.region, byteLimit: readBlockByteCount) {
                work.append(RegionRequest(request.name, try request.target.part(part)))
            }
        }
        let parts = work
        try ThreadPool.waiting.forEach(parts.count, width: options.concurrency) { index in
            try options.progress(self.readWhole(parts[index]))
        }
    }

    /// Reads a request at once.
    ///
    /// - Returns: The bytes that were read.
    private func readWhole(_ request: RegionRequest) throws -> Int {
        let (target, description) = (request.target, try description(of: request.name))
        if description.scalarType == target.scalarType, let memory = target.straight {
            var destination = memory.mutableBytes
            try read(request.name, region: target.region, into: &destination)
            return memory.count
        }
        let block = try Tensor(description.scalarType, target.region.shape) { bytes in
            try read(request.name, region: target.region, into: &bytes)
        }
        var converted = block
        if description.scalarType != target.scalarType {
            converted = try Tensor(target.scalarType, target.region.shape) { bytes in
                let loss = try ScalarConversion.convertNotingLoss(
                    block.bytes, from: description.scalarType, into: &bytes, to: target.scalarType, overflow: target.overflow)
                target.recorder?.add(
                    loss, in: target.region, shape: description.shape, from: description.scalarType, to: target.scalarType)
            }
        }
        guard
            let runs = PairedRuns(
                from: Region(whole: converted.shape), of: converted.shape, to: target.local, of: target.shape)
        else {
            throw CairnError(
                .mismatch, "a region does not fit its destination",
                .init(file: source, tensor: request.name, expected: "\(target.local)", found: "\(target.region)"))
        }
        var destination = target.memory.mutableBytes
        try runs.copy(converted.bytes, into: &destination, bitWidth: target.scalarType.bitWidth)
        return block.byteCount
    }

    /// Passes requests on to the reader that this one is a view of; the others are read here, region by region.
    ///
    /// - Parameter originalName: The name that a tensor has there; `nil` where it is not read there as it is.
    func forward(
        _ requests: [RegionRequest], to base: any CheckpointReader, _ options: BulkReadOptions,
        as originalName: (RegionRequest) throws(CairnError) -> RegionRequest?
    ) throws {
        var forwarded: [RegionRequest] = []
        var own: [RegionRequest] = []
        for request in requests {
            if let original = try originalName(request) { forwarded.append(original) } else { own.append(request) }
        }
        if !forwarded.isEmpty { try base.read(forwarded, options: options) }
        if !own.isEmpty { try readByRegion(own, options) }
    }
}

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

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(names: [String]? = nil, mapped: Bool = false, pool: BufferPool? = nil) {
        self.names = names
        self.mapped = mapped
        self.pool = pool
    }
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
