package import CairnBase

/// Gathers bytes that come in small steps into large blocks and writes these behind the caller's back, several at once: a
/// source that is read front to back then keeps the device as busy as many threads would.
///
/// Blocks lie at multiples of their size in the object, so that writes past the page cache can use them as they are. Memory
/// is bounded by ``blockLimit`` blocks.
package final class WriteBehind: StorageWriter {
    /// Bytes of an object that are put together.
    ///
    /// `@unchecked Sendable`: only one thread has it at a time.
    private final class Block: @unchecked Sendable {
        let buffer: AlignedBuffer
        /// Where the buffer begins in the object.
        private let start: Int
        private(set) var range: Range<Int>

        init(_ buffer: AlignedBuffer, at offset: Int) {
            self.buffer = buffer
            start = offset - offset % buffer.byteCount
            range = offset..<offset
        }

        var isFull: Bool { range.upperBound - start == buffer.byteCount }

        /// Takes as many bytes as there is room for.
        func append(_ bytes: UnsafeRawBufferPointer) -> Int {
            let begin = range.upperBound - start
            let count = min(bytes.count, buffer.byteCount - begin)
            UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[begin..<begin + count])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            range = range.lowerBound..<range.upperBound + count
            return count
        }

        /// Writes the bytes.
        func write(to writer: any StorageWriter) throws(CairnError) {
            let begin = range.lowerBound - start
            let bytes = UnsafeRawBufferPointer(rebasing: buffer.bytes[begin..<begin + range.count])
            try writer.write(bytes.bytes, at: range.lowerBound)
            writer.startWriteback(at: range.lowerBound, byteCount: range.count)
        }
    }

    private struct State {
        /// What the next bytes are added to.
        var current: Block?
        var underWay: [Range<Int>] = []
        var failure: CairnError?
    }

    /// The size of a block.
    package static let blockByteCount = 4 << 20
    private static let idle = RecyclingPool<AlignedBuffer>(limit: 6)

    /// The most blocks that are under way at once; one more is put together.
    package let blockLimit: Int
    package var key: String { writer.key }
    package var usefulConcurrency: Int { 1 }
    private let writer: any StorageWriter
    private let blockByteCount: Int
    private let state = Monitor(State())

    /// - Parameter writer: What finally writes; it has no other user.
    package init(_ writer: any StorageWriter, blockByteCount: Int = WriteBehind.blockByteCount) {
        self.writer = writer
        self.blockByteCount = blockByteCount
        blockLimit = max(1, writer.usefulConcurrency)
    }

    deinit { discard() }

    /// Takes the bytes. An error may be that of an earlier write.
    package func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        guard offset >= 0, offset.adding(checked: bytes.byteCount) != nil else {
            throw CairnError(.invalidArgument, "the range is beyond any object", .init(file: key, offset: offset))
        }
        try bytes.withUnsafeBytes { bytes throws(CairnError) in
            var done = 0
            while done < bytes.count {
                let block = try takeBlock(for: offset + done)
                done += block.append(UnsafeRawBufferPointer(rebasing: bytes[done...]))
                if block.isFull { send(block) } else { keep(block) }
            }
        }
    }

    package func startWriteback(at offset: Int, byteCount: Int) {}

    /// Sends what has been gathered on its way: for a caller that turns to another object, so that this one takes no memory.
    fileprivate func pauseGathering() {
        let last = state.change { state in
            defer { state.current = nil }
            return state.current
        }
        if let last { send(last) }
    }

    package func finish(byteCount: Int) throws(CairnError) {
        pauseGathering()
        waitUntilIdle()
        if let failure = state.read({ $0.failure }) { throw failure }
        try writer.finish(byteCount: byteCount)
        state.change { state in
            state.failure = CairnError(.invalidArgument, "the writer was finished before", .init(file: key))
        }
    }

    package func discard() {
        waitUntilIdle()
        state.change { state in
            state.current = nil
            if state.failure == nil {
                state.failure = CairnError(.invalidArgument, "the writer was discarded before", .init(file: key))
            }
        }
        writer.discard()
    }

    /// The block that a byte at `offset` is added to: a new one when the byte does not follow the ones before.
    private func takeBlock(for offset: Int) throws(CairnError) -> Block {
        let (current, failure) = state.change { state in
            defer { state.current = nil }
            return (state.current, state.failure)
        }
        if let failure { throw failure }
        if let current {
            if current.range.upperBound == offset { return current }
            send(current)
        }
        state.wait { $0.underWay.count < blockLimit ? () : nil }
        let buffer = Self.idle.take { $0.byteCount == blockByteCount } ?? AlignedBuffer(byteCount: blockByteCount)
        return Block(buffer, at: offset)
    }

    private func keep(_ block: Block) {
        let other = state.change { state in
            defer { state.current = block }
            return state.current
        }
        // Another thread's, meanwhile.
        if let other { send(other) }
    }

    /// Writes a block on another thread, after writes of the same bytes: what came last stays.
    private func send(_ block: Block) {
        state.wait { state -> Void? in
            guard !state.underWay.contains(where: { $0.overlaps(block.range) }) else { return nil }
            return state.underWay.append(block.range)
        }
        ThreadPool.waiting.submit { [writer, state] in
            var failure: CairnError?
            do throws(CairnError) {
                try block.write(to: writer)
            } catch {
                failure = error
            }
            Self.idle.give(block.buffer)
            state.change { state in
                if state.failure == nil { state.failure = failure }
                if let index = state.underWay.firstIndex(of: block.range) { state.underWay.remove(at: index) }
            }
        }
    }

    private func waitUntilIdle() {
        state.wait { $0.underWay.isEmpty ? () : nil }
    }
}

extension Storage {
    /// Starts a new object whose bytes will come one after the other; small ones are written as they come.
    package func createStreamed(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        let writer = try create(key, byteCount: byteCount)
        guard let byteCount, byteCount >= 2 * WriteBehind.blockByteCount else { return writer }
        return WriteBehind(writer)
    }
}

extension StorageWriter {
    /// Releases the memory that bytes are gathered in, if there is any, for a caller that turns to another object.
    package func pause() { (self as? WriteBehind)?.pauseGathering() }
}
