import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnTensor

/// A tensor whose chunks are compared and hashed.
///
/// `@unchecked Sendable`: its chunks are hashed in order, by one thread at a time.
final class ComparedTensor: @unchecked Sendable {
    let description: TensorDescription
    /// Whether the base has one of the name, the type and the shape.
    let isComparable: Bool
    /// Where it is in the list of the result's tensors.
    let index: Int
    private(set) var resultDigest = ""
    /// `nil` where the base's elements are the result's.
    private(set) var baseDigest: String?
    fileprivate let resultHash: RunningSHA256
    /// There from the first chunk on that differs: before it, both are one.
    fileprivate var baseHash: RunningSHA256?

    init(_ description: TensorDescription, isComparable: Bool, index: Int) throws(CairnError) {
        self.description = description
        self.isComparable = isComparable
        self.index = index
        resultHash = try RunningSHA256()
        if description.byteCount == 0 { resultDigest = try resultHash.digest() }
    }

    /// All chunks have been hashed.
    func close() throws(CairnError) {
        resultDigest = try resultHash.digest()
        baseDigest = try baseHash?.digest()
    }
}

/// A chunk of a tensor in both checkpoints.
///
/// `@unchecked Sendable`: one thread reads and codes it, and those that hash it come after.
final class ComparedChunk: @unchecked Sendable {
    private let region: Region
    let tensor: ComparedTensor
    let byteCount: Int
    let isFirst: Bool
    let isLast: Bool
    private let memory: ChunkMemory
    /// What makes the result of the base; none where the two are equal.
    private(set) var changes: [UInt8] = []

    init(_ region: Region, of tensor: ComparedTensor, byteCount: Int, isFirst: Bool, isLast: Bool, _ memory: ChunkMemory) {
        self.region = region
        self.tensor = tensor
        self.byteCount = byteCount
        self.isFirst = isFirst
        self.isLast = isLast
        self.memory = memory
    }

    fileprivate var baseBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory.base.bytes)[..<byteCount])
    }

    fileprivate var resultBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory.result.bytes)[..<byteCount])
    }

    /// Reads the chunk of both.
    func read(_ base: any CheckpointReader, _ result: any CheckpointReader) throws(CairnError) {
        memory.reserve(byteCount, withBase: tensor.isComparable)
        var destination = UnsafeMutableRawBufferPointer(rebasing: memory.result.bytes[..<byteCount]).mutableBytes
        try result.read(tensor.description.name, region: region, into: &destination)
        guard tensor.isComparable else { return }
        var other = UnsafeMutableRawBufferPointer(rebasing: memory.base.bytes[..<byteCount]).mutableBytes
        try base.read(tensor.description.name, region: region, into: &other)
    }

    func code() {
        changes = ChangeCoding.code(
            base: tensor.isComparable ? baseBytes : nil, result: resultBytes, tensor.description.scalarType)
    }
}

/// Memory for a chunk of both checkpoints, used for one after the other.
///
/// `@unchecked Sendable`: it belongs to one chunk at a time.
final class ChunkMemory: @unchecked Sendable {
    fileprivate private(set) var base = AlignedBuffer(byteCount: 0)
    fileprivate private(set) var result = AlignedBuffer(byteCount: 0)

    fileprivate func reserve(_ byteCount: Int, withBase: Bool) {
        if result.byteCount < byteCount { result = AlignedBuffer(byteCount: byteCount) }
        if withBase, base.byteCount < byteCount { base = AlignedBuffer(byteCount: byteCount) }
    }
}

/// Chunks that are worked on together, in order.
struct ChunkBatch {
    private(set) var chunks: [ComparedChunk] = []
    private(set) var byteCount = 0
    private var memory: [ChunkMemory] = []
    private var lastTensor = -1

    mutating func append(_ region: Region, of tensor: ComparedTensor, isLast: Bool) throws(CairnError) {
        let count = try Tensor.byteCount(tensor.description.scalarType, region.shape)
        if chunks.count == memory.count { memory.append(ChunkMemory()) }
        chunks.append(
            ComparedChunk(
                region, of: tensor, byteCount: count, isFirst: region.offsets.allSatisfy { $0 == 0 }, isLast: isLast,
                memory[chunks.count]))
        byteCount += count
    }

    mutating func clear() {
        chunks.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    /// What is to be hashed, each job by one thread: the result's chunks of a tensor, and the base's.
    func hashJobs() -> [HashJob] {
        var jobs: [HashJob] = []
        var begin = 0
        while begin < chunks.count {
            let tensor = chunks[begin].tensor
            let end = chunks[begin...].firstIndex { $0.tensor !== tensor } ?? chunks.count
            let own = Array(chunks[begin..<end])
            if tensor.baseHash != nil {
                jobs.append(HashJob(chunks: own, side: .result))
                jobs.append(HashJob(chunks: own, side: .base))
            } else {
                jobs.append(HashJob(chunks: own, side: .both))
            }
            begin = end
        }
        return jobs
    }
}

/// Chunks of one tensor that are hashed.
struct HashJob: Sendable {
    enum Side {
        case base, result
        /// As long as all are equal, one hash does for both.
        case both
    }

    let chunks: [ComparedChunk]
    let side: Side

    func run() throws(CairnError) {
        for chunk in chunks {
            let tensor = chunk.tensor
            if side == .both, tensor.baseHash == nil, tensor.isComparable, !chunk.changes.isEmpty {
                tensor.baseHash = try RunningSHA256(copying: tensor.resultHash)
            }
            if side != .result, let hash = tensor.baseHash { try hash.update(chunk.baseBytes.bytes) }
            if side != .base { try tensor.resultHash.update(chunk.resultBytes.bytes) }
        }
    }
}
