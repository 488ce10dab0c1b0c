import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// The files of some ranks, written side by side in one pass over the source.
struct RankBatch {
    /// A fragment of one of the files.
    private struct Target {
        /// Which of the batch's files.
        var slot: Int
        /// Its position among the fragments of the file.
        var fragment: Int
        var region: Region
    }

    /// What a file gets of a slab.
    private struct Part: Sendable {
        var fragment: Int
        var region: Region
        var slab: SlabBuffer.Slab
    }

    private let resharder: Resharder
    private let options: SaveOptions
    private let isWhole: Bool
    private let appenders: [RankFileAppender]
    /// For each tensor the fragments that the batch's ranks write.
    private let targets: [[Target]]

    /// Makes the files, without data yet.
    ///
    /// - Parameter values: Those that a rank has alone.
    init(
        _ resharder: Resharder, _ session: SaveSession, ranks: Range<Int>, _ options: SaveOptions,
        values: (Int) -> [NamedValue]
    ) throws {
        self.resharder = resharder
        self.options = options
        let plan = resharder.plan
        isWhole = ranks.count == plan.rankCount
        var targets = [[Target]](repeating: [], count: plan.tensors.count)
        var appenders: [RankFileAppender] = []
        do {
            for rank in ranks {
                var fragments: [FragmentRequest] = []
                for write in plan.writes(ofRank: rank) {
                    targets[write.tensor].append(
                        Target(slot: appenders.count, fragment: fragments.count, region: write.global))
                    let tensor = plan.tensors[write.tensor]
                    let byteCount = try Tensor.byteCount(tensor.scalarType, write.global.shape)
                    fragments.append(
                        FragmentRequest(
                            name: tensor.name, scalarType: tensor.scalarType,
                            globalShape: plan.storedShape(ofTensor: write.tensor), region: write.global,
                            codec: options.compression.codec(ofStreamed: byteCount)))
                }
                appenders.append(
                    try RankFileAppender(
                        session, rank: rank, fragments: fragments, values: values(rank)))
            }
        } catch {
            for appender in appenders { appender.discard() }
            throw error
        }
        self.targets = targets
        self.appenders = appenders
    }

    /// Reads what the ranks write, writes it, and makes the files durable.
    ///
    /// - Parameter buffers: Two: one is read into while the other is written.
    func write(through buffers: (SlabBuffer, SlabBuffer)) throws {
        let writing = OverlappedWork()
        var (buffer, other) = buffers
        /// Reads the buffer's slabs and has them written.
        func flush() throws {
            let slabs = buffer.slabs
            try read(slabs)
            // When the next begins, this is done: the buffers are swapped.
            try writing.start { try write(slabs) }
            (buffer, other) = (other, buffer)
            buffer.removeAll()
        }
        do {
            let plan = resharder.plan
            for index in plan.tensors.indices where !targets[index].isEmpty {
                let type = plan.tensors[index].scalarType
                let whole = TensorDescription(
                    name: plan.tensors[index].name, scalarType: type, shape: plan.storedShape(ofTensor: index))
                for slab in SlabSequence(of: whole, byteLimit: buffer.slabByteCount) {
                    guard let region = needed(of: slab, ofTensor: index) else { continue }
                    if try buffer.add(region, ofTensor: index, type) { continue }
                    try flush()
                    _ = try buffer.add(region, ofTensor: index, type)
                }
            }
            try flush()
            try writing.wait()
            for buffer in [buffer, other] { buffer.removeAll() }
            let appenders = appenders
            try ThreadPool.shared.forEach(appenders.count, width: options.concurrency) { try appenders[$0].finish() }
        } catch {
            try? writing.wait()
            for buffer in [buffer, other] { buffer.removeAll() }
            for appender in appenders { appender.discard() }
            throw error
        }
    }

    /// The smallest box that has all that the batch writes of a slab.
    private func needed(of slab: Region, ofTensor index: Int) -> Region? {
        if isWhole { return slab }
        var low = slab.shape.extents.indices.map { slab.offsets[$0] + slab.shape[$0] }
        var high = slab.offsets
        var isEmpty = true
        for target in targets[index] {
            guard let common = target.region.intersection(slab) else { continue }
            isEmpty = false
            for dimension in low.indices {
                low[dimension] = min(low[dimension], common.offsets[dimension])
                high[dimension] = max(high[dimension], common.offsets[dimension] + common.shape[dimension])
            }
        }
        // Packed elements are read as they are cut: at whole bytes.
        if isEmpty || resharder.plan.tensors[index].scalarType.isPacked { return isEmpty ? nil : slab }
        return try? Region(offsets: low, shape: Shape(zip(low, high).map { $1 - $0 }))
    }

    /// Reads slabs into their memory, each converted to the type that is written.
    private func read(_ slabs: [SlabBuffer.Slab]) throws {
        let requests = slabs.map { slab in
            let tensor = resharder.plan.tensors[slab.tensor]
            var target = ReadTarget(
                region: slab.region, memory: slab.memory.bytes, scalarType: tensor.scalarType, shape: slab.region.shape,
                local: Region(whole: slab.region.shape))
            target.recorder = LossRecorder(ledger: resharder.ledger, tensor: tensor.name)
            return RegionRequest(tensor.name, target)
        }
        try resharder.reader.read(requests, options: BulkReadOptions(concurrency: options.concurrency))
    }

    /// Gives each file its parts of the slabs, in their order; files side by side.
    private func write(_ slabs: [SlabBuffer.Slab]) throws {
        var parts = [[Part]](repeating: [], count: appenders.count)
        for slab in slabs {
            for target in targets[slab.tensor] {
                guard let common = target.region.intersection(slab.region) else { continue }
                parts[target.slot].append(Part(fragment: target.fragment, region: common, slab: slab))
            }
        }
        let work = parts.indices.filter { !parts[$0].isEmpty }.map { (appenders[$0], parts[$0]) }
        let (tensors, progress) = (resharder.plan.tensors, options.progress)
        let buffers = RecyclingPool<[UInt8]>()
        try ThreadPool.shared.forEach(work.count, width: options.concurrency) { index in
            let (appender, parts) = work[index]
            try buffers.with([]) { staging in
                for part in parts {
                    let type = tensors[part.slab.tensor].scalarType
                    try progress(Self.append(part, type, to: appender, &staging))
                }
            }
            appender.pause()
        }
    }

    /// Appends a part to its fragment: what a slab has of a box follows on what earlier slabs had of it.
    private static func append(
        _ part: Part, _ type: ScalarType, to appender: RankFileAppender, _ staging: inout [UInt8]
    ) throws(CairnError) -> Int {
        let byteCount = try Tensor.byteCount(type, part.region.shape)
        let inSlab = part.region.relative(to: part.slab.region.offsets)
        var runs = RegionRuns(of: inSlab, in: part.slab.region.shape)
        let bytes = part.slab.memory.bytes
        if runs.count == 1, let first = runs.next(), first * type.bitWidth % 8 == 0 {
            let begin = first * type.bitWidth / 8
            let run = UnsafeRawBufferPointer(rebasing: bytes[begin..<begin + byteCount])
            try appender.append(run.bytes, to: part.fragment)
            return byteCount
        }
        if staging.count < byteCount { staging = [UInt8](repeating: 0, count: byteCount) }
        let whole = Region(whole: part.region.shape)
        guard let pairs = PairedRuns(from: inSlab, of: part.slab.region.shape, to: whole, of: part.region.shape) else {
            throw CairnError(.mismatch, "a part of a slab does not fit its fragment", .init(found: "\(part.region)"))
        }
        var span = staging.mutableSpan
        var target = span.mutableBytes
        try pairs.copy(UnsafeRawBufferPointer(bytes).bytes, into: &target, bitWidth: type.bitWidth)
        try appender.append(staging.span.bytes.extracting(0..<byteCount), to: part.fragment)
        return byteCount
    }
}

/// Memory that slabs of a source are read into, one behind the other, until it is full.
final class SlabBuffer {
    /// A slab and its region.
    struct Slab: Sendable {
        /// The tensor's position in the write plan.
        var tensor: Int
        /// In the stored tensor.
        var region: Region
        /// As many bytes as the region takes in the written type.
        var memory: SharedMemory
    }

    private(set) var slabs: [Slab] = []
    private var memory: AlignedBuffer
    private var used = 0

    /// The most bytes that a slab has, unless a tensor cannot be cut finer.
    var slabByteCount: Int { max(1 << 14, min(readBlockByteCount, memory.byteCount / 4)) }

    init(byteCount: Int) { memory = AlignedBuffer(byteCount: byteCount) }

    /// Adds a slab; false when there is no room for it, though a buffer without slabs has room for any.
    func add(_ region: Region, ofTensor tensor: Int, _ scalarType: ScalarType) throws(CairnError) -> Bool {
        let byteCount = try Tensor.byteCount(scalarType, region.shape)
        if slabs.isEmpty, byteCount > memory.byteCount { memory = AlignedBuffer(byteCount: byteCount) }
        guard byteCount <= memory.byteCount - used else { return false }
        let bytes = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[used..<used + byteCount])
        slabs.append(Slab(tensor: tensor, region: region, memory: SharedMemory(bytes: bytes)))
        // At pages, for reads past the page cache.
        used = min(memory.byteCount, (used + byteCount).roundedUp(toMultipleOf: AlignedMemory.pageSize) ?? memory.byteCount)
        return true
    }

    func removeAll() {
        slabs.removeAll(keepingCapacity: true)
        used = 0
    }
}
