import CairnBase
package import CairnTensor

/// Writes any reader to any writer, reading each byte once, with memory bounded by a few buffers.
///
/// One thread reads ahead while the caller's writes, so that the slower of the two decides and not their sum.
///
/// - Parameters:
///   - bufferByteCount: The size of a buffer; a tensor larger than that is read in slabs of its first dimensions.
///   - strict: Whether what cannot be carried over is an error: the writer is then discarded, as after any other.
///   - progress: Called with the bytes written so far and in all.
/// - Returns: What the writer's format could not carry over, and what the reader's conversions lost; behind them what the writer
///   put out of the way.
/// - Throws: The reader's and the writer's errors, and ``CairnError/Code/unsupported`` where `strict` says so; the writer has
///   then been discarded.
public func copyCheckpoint(
    from reader: any CheckpointReader, to writer: any CheckpointWriter, bufferByteCount: Int = 8 << 20,
    strict: Bool = false, progress: (_ written: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> [String] {
    do {
        let ofRanks = try reader.rankValues()
        let isCarried = try ofRanks.isEmpty || writer.carry(ofRanks)
        var notes = try writer.begin(
            tensors: reader.tensors, values: reader.values, structure: reader.structure)
        if !isCarried, let note = ofRanks.lossNote { notes.append(note) }
        if strict, !notes.isEmpty { throw CairnError.refusing(losses: notes) }
        let stored = reader.tensors.filter { $0.tiedTo == nil }
        let total = stored.totalByteCount
        let resumed = min(stored.count, writer.resumedTensorCount)
        var written = stored.prefix(resumed).totalByteCount
        if written > 0 { try progress(written, total) }
        // What an interrupted copy has written was converted then: what that lost is found out by reading it again.
        if resumed > 0, reader.losses != nil {
            try ReadAhead(Array(stored.prefix(resumed)), of: reader, blockByteCount: max(1, bufferByteCount))
                .forEachBlock { _ in try progress(written, total) }
        }
        let rest = Array(stored.dropFirst(resumed))
        try ReadAhead(rest, of: reader, blockByteCount: max(1, bufferByteCount)).forEachBlock { bytes in
            try writer.append(bytes)
            written += bytes.byteCount
            try progress(written, total)
        }
        let all = notes + (reader.losses ?? []).map(\.description)
        if strict, !all.isEmpty { throw CairnError.refusing(losses: all) }
        try writer.finish()
        return all + writer.closingNotes
    } catch {
        writer.discard()
        throw error
    }
}

/// The bytes of tensors in their order, read by a thread of its own a few blocks ahead of the caller that takes them.
private struct ReadAhead {
    /// How many blocks there are: one that is written, one that is read, one between them.
    private static let blockCount = 3

    /// Memory for a part of a tensor.
    ///
    /// `@unchecked Sendable`: only one thread has it at a time, as the queues hand it on.
    private final class Block: @unchecked Sendable {
        private var memory = AlignedBuffer(byteCount: 0)
        private var count = 0

        var bytes: RawSpan {
            @_lifetime(borrow self)
            get { RawSpan(memory.base, byteCount: count, borrowing: self) }
        }

        func fill(_ region: Region, of tensor: TensorDescription, from reader: any CheckpointReader) throws {
            count = tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0
            if memory.byteCount < count { memory = AlignedBuffer(byteCount: count) }
            var destination = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count]).mutableBytes
            try reader.read(tensor.name, region: region, into: &destination)
        }
    }

    private enum Filled: Sendable {
        case block(Block)
        case failure(any Error)
    }

    private let tensors: [TensorDescription]
    private let reader: any CheckpointReader
    private let blockByteCount: Int

    init(_ tensors: [TensorDescription], of reader: any CheckpointReader, blockByteCount: Int) {
        self.tensors = tensors
        self.reader = reader
        self.blockByteCount = blockByteCount
    }

    /// Calls `body` with every part in turn; nothing is read any more when it returns or throws.
    func forEachBlock(_ body: (RawSpan) throws -> Void) throws {
        // A thread is not worth its start for what fits into one block.
        guard tensors.reduce(0, { $0 + $1.byteCount }) > blockByteCount else {
            let block = Block()
            for tensor in tensors {
                for region in SlabSequence(of: tensor, byteLimit: blockByteCount) {
                    try block.fill(region, of: tensor, from: reader)
                    try body(block.bytes)
                }
            }
            return
        }
        let (free, filled) = (BlockingQueue<Block>(), BlockingQueue<Filled>())
        for _ in 0..<Self.blockCount { free.push(Block()) }
        let (tensors, reader, blockByteCount) = (self.tensors, self.reader, self.blockByteCount)
        startThread {
            Self.read(tensors, of: reader, blockByteCount: blockByteCount, into: free, filled)
            filled.close()
        }
        var failure: (any Error)?
        // The queue ends when the thread does, also after an error.
        while let next = filled.pop() {
            guard failure == nil else { continue }
            do {
                switch next {
                case .failure(let error): throw error
                case .block(let block):
                    try body(block.bytes)
                    free.push(block)
                }
            } catch {
                failure = error
                free.close()
            }
        }
        if let failure { throw failure }
    }

    private static func read(
        _ tensors: [TensorDescription], of reader: any CheckpointReader, blockByteCount: Int,
        into free: BlockingQueue<Block>, _ filled: BlockingQueue<Filled>
    ) {
        do {
            for tensor in tensors {
                for region in SlabSequence(of: tensor, byteLimit: blockByteCount) {
                    guard let block = free.pop() else { return }
                    try block.fill(region, of: tensor, from: reader)
                    filled.push(.block(block))
                }
            }
        } catch {
            filled.push(.failure(error))
        }
    }
}

/// Cuts a tensor into regions that follow each other in memory, each of at most so many bytes where the shape allows.
package struct SlabSequence: Sequence {
    private let shape: Shape
    private let rows: Int
    private let dimension: Int

    /// - Parameter byteLimit: the most bytes of one slab. A single element row of packed type is never cut.
    package init(of tensor: TensorDescription, byteLimit: Int) {
        shape = tensor.shape
        let bits = tensor.scalarType.bitWidth
        let limit = Swift.max(1, byteLimit) * 8 / bits
        // The first dimension below which one slice fits the limit is the one that is cut.
        var inner = shape.elementCount
        var dimension = 0
        for (index, extent) in shape.extents.enumerated() {
            dimension = index
            inner = extent == 0 ? 0 : inner / extent
            // Packed elements are cut only where a slice is whole bytes.
            let next = index + 1 < shape.dimensionCount ? inner / Swift.max(1, shape[index + 1]) : 0
            if inner <= limit || (tensor.scalarType.isPacked && next * bits % 8 != 0) || next == 0 { break }
        }
        self.dimension = dimension
        let fitting = inner == 0 ? 1 : Swift.max(1, limit / inner)
        // Eight rows of packed elements always end at a byte.
        rows = tensor.scalarType.isPacked ? Swift.max(8, fitting / 8 * 8) : fitting
    }

    package func makeIterator() -> AnyIterator<Region> {
        guard shape.elementCount > 0 else { return AnyIterator { nil } }
        guard shape.dimensionCount > 0 else {
            var done = false
            return AnyIterator {
                defer { done = true }
                return done ? nil : Region(whole: .scalar)
            }
        }
        var outer = [Int](repeating: 0, count: dimension)
        var row = 0
        var finished = false
        return AnyIterator {
            if finished { return nil }
            let height = Swift.min(rows, shape[dimension] - row)
            let offsets = outer + [row] + [Int](repeating: 0, count: shape.dimensionCount - dimension - 1)
            let extents =
                [Int](repeating: 1, count: dimension) + [height] + Array(shape.extents.dropFirst(dimension + 1))
            row += height
            if row >= shape[dimension] {
                row = 0
                var index = dimension - 1
                while index >= 0 {
                    outer[index] += 1
                    if outer[index] < shape[index] { break }
                    outer[index] = 0
                    index -= 1
                }
                finished = index < 0
            }
            return try? Region(offsets: offsets, shape: Shape(extents))
        }
    }
}
