import CairnBase
import CairnStorage

/// An object that is being written into memory which a keeper has reserved for it.
final class KeeperWriter: StorageWriter {
    let key: String
    private let connection: KeeperConnection
    private let state: Monitor<State>

    private struct State {
        var writer: Int
        var generation: Int
        var file: FileDescriptor
        var capacity: Int
        /// What was written, if the memory had other bytes before: the rest must read as zeros.
        var written: WrittenRanges?
        /// Writes under way.
        var writing = 0
        var end: End = .open
    }

    private enum End {
        case open
        /// The first failure is final.
        case failed(CairnError)
        case closed
    }

    init(key: String, byteCount: Int, connection: KeeperConnection) throws(CairnError) {
        self.key = key
        self.connection = connection
        let (reply, file) = try connection.ask(.create(key: key, byteCount: byteCount))
        guard case .created(let writer, let capacity, let isRecycled) = reply, let file else {
            throw connection.misunderstanding
        }
        state = Monitor(
            State(
                writer: writer, generation: connection.generation, file: file, capacity: capacity,
                written: isRecycled ? WrittenRanges() : nil))
    }

    deinit { discard() }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        guard let end = offset.adding(checked: bytes.byteCount) else {
            throw CairnError(.invalidArgument, "the range ends beyond any file", .init(file: key, offset: offset))
        }
        let file = try beginWriting(upTo: end)
        do throws(SystemCallError) {
            try bytes.withUnsafeBytes { buffer throws(SystemCallError) in
                try file.writeFully(at: offset, from: buffer)
            }
        } catch {
            throw endWriting(offset..<end, error.explained("write", key).adding(.init(offset: offset))) ?? closed
        }
        _ = endWriting(offset..<end, nil)
    }

    func startWriteback(at offset: Int, byteCount: Int) {}

    func finish(byteCount: Int) throws(CairnError) {
        try StorageKey.validate(offset: 0, byteCount: byteCount, of: key)
        let file = try beginWriting(upTo: byteCount)
        let gaps = state.read { $0.written?.gaps(in: 0..<byteCount) } ?? []
        var failure: CairnError?
        do throws(SystemCallError) {
            for gap in gaps { try Self.zero(gap, of: file) }
        } catch {
            failure = error.explained("write", key)
        }
        if let failure = endWriting(0..<0, failure) { throw failure }
        let (writer, generation) = try state.change { state throws(CairnError) in
            try open(state)
            guard state.writing == 0 else {
                throw CairnError(.invalidArgument, "the object is finished while it is being written", .init(file: key))
            }
            state.end = .closed
            return (state.writer, state.generation)
        }
        do throws(CairnError) {
            _ = try connection.ask(.finish(writer: writer, byteCount: byteCount), generation: generation)
        } catch {
            state.change { $0.end = .failed(error) }
            throw error
        }
    }

    func discard() {
        let open: (writer: Int, generation: Int)? = state.change { state in
            if case .closed = state.end { return nil }
            state.end = .closed
            return (state.writer, state.generation)
        }
        if let open { connection.tell(.discard(writer: open.writer), generation: open.generation) }
    }

    // MARK: - Writes under way

    /// Notes that a write begins; the memory has room up to `end`.
    private func beginWriting(upTo end: Int) throws(CairnError) -> FileDescriptor {
        let ready = try state.change { state throws(CairnError) -> FileDescriptor? in
            try open(state)
            guard end <= state.capacity else { return nil }
            state.writing += 1
            return state.file
        }
        if let ready { return ready }
        return try extend(to: end)
    }

    /// Notes that a write has ended. Gives back the first failure.
    private func endWriting(_ range: Range<Int>, _ failure: CairnError?) -> CairnError? {
        state.change { state in
            state.writing -= 1
            state.written?.add(range)
            if let failure, case .open = state.end { state.end = .failed(failure) }
            if case .failed(let first) = state.end { return first }
            return nil
        }
    }

    /// Goes on in larger memory, once no other write is under way.
    private func extend(to end: Int) throws(CairnError) -> FileDescriptor {
        let result: Result<FileDescriptor, CairnError>? = state.wait { state in
            guard state.writing == 0 || end <= state.capacity else { return nil }
            do throws(CairnError) {
                try open(state)
                if end > state.capacity { try move(&state, to: end) }
                state.writing += 1
                return .success(state.file)
            } catch {
                if case .open = state.end { state.end = .failed(error) }
                return .failure(error)
            }
        }
        guard let result else { throw closed }
        return try result.get()
    }

    private func move(_ state: inout State, to end: Int) throws(CairnError) {
        // Twice as much at least, so that an object of unknown size is copied a few times only.
        let wanted = max(end, state.capacity.multiplied(checked: 2) ?? end, 1 << 20)
        let (reply, file) = try connection.ask(.create(key: key, byteCount: wanted), generation: state.generation)
        guard case .created(let writer, let capacity, let isRecycled) = reply, let file, capacity >= end else {
            throw connection.misunderstanding
        }
        do throws(SystemCallError) {
            try Self.copy(state.capacity, from: state.file, to: file)
        } catch {
            throw error.explained("copy to larger memory", key)
        }
        // What is beyond the old memory may have other bytes.
        var written = state.written
        if isRecycled && written == nil {
            written = WrittenRanges()
            written?.add(0..<state.capacity)
        }
        // Not before: the keeper gives the memory to the next object.
        connection.tell(.discard(writer: state.writer), generation: state.generation)
        state.writer = writer
        state.file = file
        state.capacity = capacity
        state.written = written
    }

    private func open(_ state: State) throws(CairnError) {
        switch state.end {
        case .open: return
        case .failed(let error): throw error
        case .closed: throw closed
        }
    }

    private var closed: CairnError {
        CairnError(.invalidArgument, "the writer was finished or discarded before", .init(file: key))
    }

    // MARK: - Bytes

    private static func zero(_ range: Range<Int>, of file: FileDescriptor) throws(SystemCallError) {
        let zeros = [UInt8](repeating: 0, count: min(range.count, 1 << 20))
        var offset = range.lowerBound
        while offset < range.upperBound {
            let count = min(zeros.count, range.upperBound - offset)
            try zeros.span.bytes.withUnsafeBytes { buffer throws(SystemCallError) in
                try file.writeFully(at: offset, from: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            }
            offset += count
        }
    }

    private static func copy(
        _ byteCount: Int, from source: FileDescriptor, to target: FileDescriptor
    ) throws(SystemCallError) {
        var buffer = [UInt8](repeating: 0, count: min(byteCount, 1 << 20))
        var offset = 0
        while offset < byteCount {
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            let count = try bytes.withUnsafeMutableBytes { buffer throws(SystemCallError) in
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(buffer.count, byteCount - offset)])
                let count = try source.readFully(at: offset, into: part)
                try target.writeFully(at: offset, from: UnsafeRawBufferPointer(rebasing: part[..<count]))
                return count
            }
            if count == 0 { return }
            offset += count
        }
    }
}

/// Which bytes of an object were written: ranges in order, none of which touch.
package struct WrittenRanges {
    private var ranges: [Range<Int>] = []

    package init() {}

    package mutating func add(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        let first = ranges.firstIndex { $0.upperBound >= range.lowerBound } ?? ranges.endIndex
        let last = ranges[first...].firstIndex { $0.lowerBound > range.upperBound } ?? ranges.endIndex
        var merged = range
        if first < last {
            merged =
                min(range.lowerBound, ranges[first].lowerBound)..<max(range.upperBound, ranges[last - 1].upperBound)
        }
        ranges.replaceSubrange(first..<last, with: CollectionOfOne(merged))
    }

    /// What was not written of a range.
    package func gaps(in whole: Range<Int>) -> [Range<Int>] {
        var gaps: [Range<Int>] = []
        var position = whole.lowerBound
        for range in ranges where range.upperBound > whole.lowerBound && range.lowerBound < whole.upperBound {
            if range.lowerBound > position { gaps.append(position..<range.lowerBound) }
            position = max(position, range.upperBound)
        }
        if position < whole.upperBound { gaps.append(position..<whole.upperBound) }
        return gaps
    }
}
