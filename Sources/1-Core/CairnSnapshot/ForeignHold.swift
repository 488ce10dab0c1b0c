import CairnBase
import CairnCheckpoint
import CairnTensor

/// The bytes of a ``ForeignArray`` as they were when a snapshot was taken, for that snapshot.
final class ForeignHold: ForeignBytes {
    /// Where a chunk's bytes are.
    private enum Chunk: Sendable {
        /// In the array, unchanged.
        case pending
        /// In the array; a thread is reading them.
        case busy
        /// The array is about to change, or has: here.
        case saved(Tensor)
        /// No longer needed.
        case drained
    }

    let array: ForeignArray
    private let chunks: Monitor<[Chunk]>

    init(_ array: ForeignArray) {
        self.array = array
        let count = array.byteCount.dividedRoundingUp(by: array.chunkByteCount)
        chunks = Monitor([Chunk](repeating: .pending, count: count))
    }

    /// Saves what is still needed of `range`, before it is overwritten.
    func save(_ range: Range<Int>) throws {
        let budget = array.pool.copies
        for index in indices(range) {
            let part = self.range(of: index)
            // While memory is short, the drain may get there first.
            guard isNeeded(index), budget.admit(part.count, isUnique: { !self.isNeeded(index) }) else { continue }
            guard take(index) else {
                budget.release(part.count)
                continue
            }
            do {
                let memory = array.memory
                let saved = try Tensor(.u8, [part.count], pool: array.pool) { try memory.read(part, into: &$0) }
                saved.keepCharge(to: budget)
                replace(index, by: .saved(saved))
            } catch {
                budget.release(part.count)
                replace(index, by: .pending)
                throw error
            }
        }
    }

    /// Calls `body` with bytes as they were. Chunks that `range` covers whole are not needed any more afterwards.
    func withBytes<Result>(_ range: Range<Int>, _ body: (RawSpan) throws -> Result) throws -> Result {
        let copy = try Tensor(.u8, [range.count], pool: array.pool) { destination in
            for index in indices(range) {
                let chunk = self.range(of: index)
                let part = chunk.clamped(to: range)
                var target = destination.part(
                    part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound)
                try read(part, of: index, isWhole: part == chunk, into: &target)
            }
        }
        array.pool.copies.noteRelease()
        return try body(copy.bytes)
    }

    /// Ends the hold: nothing of it is needed.
    func end() {
        array.end(self)
        // Memory is freed outside the lock.
        _ = chunks.change { chunks in
            defer { chunks = chunks.map { if case .busy = $0 { .busy } else { .drained } } }
            return chunks
        }
        array.pool.copies.noteRelease()
    }

    private func read(_ part: Range<Int>, of index: Int, isWhole: Bool, into target: inout MutableRawSpan) throws {
        if take(index) {
            do {
                try array.memory.read(part, into: &target)
                replace(index, by: isWhole ? .drained : .pending)
            } catch {
                replace(index, by: .pending)
                throw error
            }
            return
        }
        guard case .saved(let saved) = chunks.read({ $0[index] }) else {
            throw CairnError(.cancelled, "the snapshot was given up")
        }
        let start = part.lowerBound - range(of: index).lowerBound
        saved.bytes.extracting(start..<start + part.count).withUnsafeBytes { source in
            target.withUnsafeMutableBytes { $0.copyMemory(from: source) }
        }
        if isWhole { replace(index, by: .drained) }
    }

    /// Waits until no thread reads the chunk; whether its bytes are still in the array. The caller then owns it and calls
    /// ``replace(_:by:)``.
    private func take(_ index: Int) -> Bool {
        chunks.wait { chunks -> Bool? in
            switch chunks[index] {
            case .busy: return nil
            case .pending:
                chunks[index] = .busy
                return true
            case .saved, .drained: return false
            }
        } ?? false
    }

    private func replace(_ index: Int, by chunk: Chunk) {
        // Memory is freed outside the lock.
        _ = chunks.change { chunks in
            defer { chunks[index] = chunk }
            return chunks[index]
        }
    }

    private func isNeeded(_ index: Int) -> Bool {
        chunks.read { chunks in
            switch chunks[index] {
            case .pending, .busy: true
            case .saved, .drained: false
            }
        }
    }

    private func indices(_ range: Range<Int>) -> Range<Int> {
        guard !range.isEmpty else { return 0..<0 }
        return range.lowerBound / array.chunkByteCount..<range.upperBound.dividedRoundingUp(by: array.chunkByteCount)
    }

    private func range(of index: Int) -> Range<Int> {
        let begin = index * array.chunkByteCount
        return begin..<min(array.byteCount, begin + array.chunkByteCount)
    }
}

extension HeldFragment {
    /// Memory that is not copy-on-write.
    convenience init(_ hold: ForeignHold, name: String) {
        let array = hold.array
        self.init(hold, name: name, array.scalarType, array.shape, byteCount: array.byteCount)
    }
}
