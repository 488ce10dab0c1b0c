import CZstd
import CairnBase

/// What it takes to compress or expand chunks, kept from one to the next: zstd's contexts, and memory that has been touched
/// before.
///
/// `@unchecked Sendable`: whoever took it from the pool is the only one to use it until it is given back.
package final class ChunkWorkspace: @unchecked Sendable {
    private static let pool = RecyclingPool<ChunkWorkspace>(limit: 2 * ThreadPool.processorCount)
    /// What is kept of memory and of a context between two uses: ordinary chunks and levels, not the largest there can be.
    private static let keptByteCount = 16 << 20

    private var searching: OpaquePointer?
    private var coding: OpaquePointer?
    private var expanding: OpaquePointer?
    private var planeMemory: AlignedBuffer?
    private var storedMemory: AlignedBuffer?

    private init() {}

    deinit {
        ZSTD_freeCCtx(searching)
        ZSTD_freeCCtx(coding)
        ZSTD_freeDCtx(expanding)
    }

    /// Calls `body` with a workspace that no other thread uses meanwhile.
    package static func with<Result, Failure: Error>(
        _ body: (ChunkWorkspace) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let workspace = pool.take() ?? ChunkWorkspace()
        defer {
            workspace.trim()
            pool.give(workspace)
        }
        return try body(workspace)
    }

    /// Memory for the planes of a chunk, of undefined content.
    func planes(_ byteCount: Int) -> UnsafeMutableRawBufferPointer { Self.memory(byteCount, &planeMemory) }

    /// Memory for a chunk as it is stored, of undefined content.
    func stored(_ byteCount: Int) -> UnsafeMutableRawBufferPointer { Self.memory(byteCount, &storedMemory) }

    /// Compresses to one frame at a level of zstd.
    ///
    /// - Returns: The frame's length; `nil` when it does not fit.
    func compress(_ source: UnsafeRawBufferPointer, level: Int, into target: UnsafeMutableRawBufferPointer) -> Int? {
        if searching == nil { searching = ZSTD_createCCtx() }
        guard let searching else { return nil }
        let size = ZSTD_compressCCtx(
            searching, target.baseAddress, target.count, source.baseAddress, source.count, CInt(level))
        return ZSTD_isError(size) == 0 ? size : nil
    }

    /// Compresses to one frame of Huffman codes: no search for matches worth the name, which takes most of zstd's time and
    /// finds next to nothing in the planes of weights.
    ///
    /// - Returns: The frame's length; `nil` when it does not fit.
    func code(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int? {
        if coding == nil, let made = ZSTD_createCCtx() {
            coding = made
            // A level so low that the search passes over a whole block at a step. Without the mode, levels below zero do not
            // code literals at all.
            ZSTD_CCtx_setParameter(coding, ZSTD_c_compressionLevel, -100_000)
            ZSTD_CCtx_setParameter(coding, ZSTD_c_experimentalParam5, CInt(ZSTD_lcm_huffman.rawValue))
        }
        guard let coding else { return nil }
        let size = ZSTD_compress2(coding, target.baseAddress, target.count, source.baseAddress, source.count)
        return ZSTD_isError(size) == 0 ? size : nil
    }

    /// Expands a frame; `false` unless that fills `target` exactly.
    func expand(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Bool {
        if expanding == nil { expanding = ZSTD_createDCtx() }
        guard let expanding else { return false }
        return ZSTD_decompressDCtx(expanding, target.baseAddress, target.count, source.baseAddress, source.count)
            == target.count
    }

    private static func memory(_ byteCount: Int, _ buffer: inout AlignedBuffer?) -> UnsafeMutableRawBufferPointer {
        if let buffer, buffer.byteCount >= byteCount { return .init(rebasing: buffer.bytes[..<byteCount]) }
        let made = AlignedBuffer(byteCount: byteCount)
        buffer = made
        return made.bytes
    }

    private func trim() {
        if let planeMemory, planeMemory.byteCount > Self.keptByteCount { self.planeMemory = nil }
        if let storedMemory, storedMemory.byteCount > Self.keptByteCount { self.storedMemory = nil }
        if ZSTD_sizeof_CCtx(searching) > Self.keptByteCount {
            ZSTD_freeCCtx(searching)
            searching = nil
        }
    }
}
