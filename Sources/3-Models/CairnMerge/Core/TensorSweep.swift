import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// Goes through whole tensors of one shape side by side, in chunks, on several threads.
///
/// The chunks depend on the shape alone and their results come back in order, so that what is added up of them is the same
/// whatever the number of threads.
struct TensorSweep {
    let shape: Shape
    /// How many bytes of one tensor a chunk has.
    let chunkByteCount: Int
    let options: MergeOptions
    let workspaces: RecyclingPool<Workspace>

    /// A part of the tensors: elements that follow each other.
    struct Chunk {
        let region: Region
        /// The index of its first element.
        let first: Int
        let workspace: Workspace

        var count: Int { region.elementCount }
    }

    private var regions: [Region] {
        Array(SlabSequence(of: TensorDescription(name: "", scalarType: .f64, shape: shape), byteLimit: chunkByteCount))
    }

    /// Calls `body` for every chunk in order, on this thread.
    func forEachInTurn(_ body: (Chunk) throws -> Void) throws {
        var first = 0
        for region in regions {
            try options.interruption()
            try workspaces.with(Workspace()) { try body(Chunk(region: region, first: first, workspace: $0)) }
            first += region.elementCount
        }
    }

    /// Calls `body` for every chunk and returns the results in order.
    func map<Result: Sendable>(_ body: @escaping @Sendable (Chunk) throws -> Result) throws -> [Result] {
        let regions = self.regions
        var firsts: [Int] = []
        var first = 0
        for region in regions {
            firsts.append(first)
            first += region.elementCount
        }
        let results = Monitor([Result?](repeating: nil, count: regions.count))
        try ThreadPool.shared.forEach(regions.count, width: options.concurrency) {
            [options, workspaces, firsts] index in
            try options.interruption()
            let result = try workspaces.with(Workspace()) { workspace in
                try body(Chunk(region: regions[index], first: firsts[index], workspace: workspace))
            }
            results.change { $0[index] = result }
        }
        return results.read { $0.compactMap { $0 } }
    }
}

/// Memory that one thread computes in, kept from one piece of work to the next.
///
/// `@unchecked Sendable`: only one thread has it at a time, as a pool hands it on.
final class Workspace: @unchecked Sendable {
    private var buffers: [AlignedBuffer] = []

    /// The buffer of a number, with at least so many bytes and whatever is in it. It stays until another size is asked for.
    func buffer(_ index: Int, byteCount: Int) -> UnsafeMutableRawBufferPointer {
        while buffers.count <= index { buffers.append(AlignedBuffer(byteCount: 0)) }
        if buffers[index].byteCount < byteCount { buffers[index] = AlignedBuffer(byteCount: byteCount) }
        return UnsafeMutableRawBufferPointer(rebasing: buffers[index].bytes[..<byteCount])
    }
}
