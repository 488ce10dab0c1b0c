import CZlib
import CairnBase
import CairnStorage
import Synchronization

/// Raw DEFLATE data as the file that it expands to, without expanding it whole.
///
/// Reading on from where the last read ended goes straight on. Every so often the decoder's state is kept, so that a
/// read elsewhere expands at most what lies between two of them; such a state takes about 40 KB.
///
/// `@unchecked Sendable`: `state` is only touched under `lock`.
final class InflatedFile: StorageFile, @unchecked Sendable {
    let key: String
    let byteCount: Int
    private let source: any StorageFile
    private let lock = Mutex(())
    private var state: State

    /// How far apart decoder states are kept, in expanded bytes.
    private static let interval = 32 << 20
    private static let inputByteCount = 256 << 10

    private struct State {
        /// Where decoding stands.
        var cursor: Decoder?
        /// States that were kept, in order.
        var kept: [Decoder] = []
        var input: [UInt8] = []
        /// The part of the source that `input` holds.
        var inputRange = 0..<0
        /// The checksum of the first bytes, as far as they were ever expanded.
        var checksum: UInt32 = 0
        var checkedByteCount = 0
    }

    /// - Parameters:
    ///   - source: The compressed bytes.
    ///   - byteCount: What they expand to; other data is refused.
    init(_ source: any StorageFile, byteCount: Int) {
        self.source = source
        self.byteCount = byteCount
        key = source.key
        state = State()
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a compressed file ends too early", .init(file: key, found: "\(byteCount) bytes"))
        }
        let failure = destination.withUnsafeMutableBytes { buffer in
            lock.withLock { _ -> CairnError? in
                do throws(CairnError) {
                    try move(to: offset)
                    try expand(into: buffer)
                    if state.cursor?.produced == byteCount { release(&state) }
                    return nil
                } catch {
                    return error
                }
            }
        }
        if let failure { throw failure }
    }

    /// Gives back the memory of a decoder that is in the middle; the next read begins before it.
    func release() { lock.withLock { _ in release(&state) } }

    private func release(_ state: inout State) {
        state.cursor = nil
        state.input = []
        state.inputRange = 0..<0
    }

    /// The checksum of everything, once all of it has been expanded.
    var checksum: UInt32? { lock.withLock { _ in state.checkedByteCount == byteCount ? state.checksum : nil } }

    /// Brings the cursor to a place, from the nearest state before it.
    private func move(to offset: Int) throws(CairnError) {
        let kept = state.kept.last { $0.produced <= offset }
        let isBehind = state.cursor.map { $0.produced > offset } ?? true
        if isBehind || (state.cursor?.produced ?? 0) < (kept?.produced ?? 0) {
            guard let cursor = kept?.copy() ?? Decoder() else { throw damaged() }
            state.cursor = cursor
            state.inputRange = 0..<0
        }
        guard let cursor = state.cursor, cursor.produced < offset else { return }
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.inputByteCount, alignment: 16)
        defer { scratch.deallocate() }
        while cursor.produced < offset {
            let count = min(scratch.count, offset - cursor.produced)
            try expand(into: UnsafeMutableRawBufferPointer(rebasing: scratch[..<count]))
        }
    }

    private func expand(into buffer: UnsafeMutableRawBufferPointer) throws(CairnError) {
        guard let cursor = state.cursor else { throw damaged() }
        var written = 0
        while written < buffer.count {
            if cursor.produced >= (state.kept.last?.produced ?? 0) + Self.interval, let copy = cursor.copy() {
                state.kept.append(copy)
            }
            if !state.inputRange.contains(cursor.consumed) {
                let end = min(source.byteCount, cursor.consumed + Self.inputByteCount)
                guard cursor.consumed < end else { throw damaged() }
                state.input = try source.bytes(in: cursor.consumed..<end)
                state.inputRange = cursor.consumed..<end
            }
            let begin = cursor.consumed - state.inputRange.lowerBound
            let offset = cursor.produced
            let count = min(buffer.count - written, Self.interval)
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[written..<written + count])
            let made = state.input.withUnsafeMutableBytes {
                cursor.step(UnsafeMutableRawBufferPointer(rebasing: $0[begin...]), into: part)
            }
            guard let made else { throw damaged() }
            note(UnsafeRawBufferPointer(rebasing: part[..<made]), at: offset)
            written += made
        }
    }

    /// Carries the checksum on over bytes that are the first of their place.
    private func note(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard offset <= state.checkedByteCount, offset + bytes.count > state.checkedByteCount else { return }
        let new = UnsafeRawBufferPointer(rebasing: bytes[(state.checkedByteCount - offset)...])
        state.checksum = CRC32.combine(
            state.checksum, CRC32.checksum(new.bytes), secondByteCount: new.count)
        state.checkedByteCount += new.count
    }

    private func damaged() -> CairnError {
        CairnError(.corrupted, "compressed data is damaged or expands to another size", .init(file: key))
    }
}

/// zlib's decoder, which can be copied.
private final class Decoder {
    private var stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private(set) var consumed = 0
    private(set) var produced = 0

    init?() {
        stream.initialize(to: z_stream())
        guard inflateInit2_(stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
    }

    private init?(copying other: Decoder) {
        stream.initialize(to: z_stream())
        guard inflateCopy(stream, other.stream) == Z_OK else { return nil }
        consumed = other.consumed
        produced = other.produced
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func copy() -> Decoder? { Decoder(copying: self) }

    /// Expands some of `input`; the number of bytes made, or `nil` when the data is damaged or ends too early.
    func step(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Int? {
        stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_in = UInt32(clamping: input.count)
        stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(clamping: output.count)
        let status = inflate(stream, Z_NO_FLUSH)
        let taken = input.count - Int(stream.pointee.avail_in)
        let made = output.count - Int(stream.pointee.avail_out)
        stream.pointee.next_in = nil
        stream.pointee.next_out = nil
        consumed += taken
        produced += made
        guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, taken > 0 || made > 0 else {
            return nil
        }
        return made
    }
}

/// Expands DEFLATE data, by zlib.
package enum Inflation {
    /// The most that DEFLATE expands by.
    package static let greatestRatio = 1032

    /// What raw data (RFC 1951) expands to, or `nil` when it is damaged or expands to another size than `byteCount`.
    static func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        expand(source, byteCount: byteCount, windowBits: -15)
    }

    /// What data with zlib's header and checksum (RFC 1950) expands to, or `nil` as above.
    package static func expandZlib(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        expand(source, byteCount: byteCount, windowBits: 15)
    }

    private static func expand(_ source: [UInt8], byteCount: Int, windowBits: Int32) -> [UInt8]? {
        guard source.count <= UInt32.max, byteCount <= UInt32.max, byteCount / greatestRatio <= source.count else {
            return nil
        }
        var result = [UInt8](repeating: 0, count: byteCount)
        var input = source
        var spare: UInt8 = 0
        let isWhole = input.withUnsafeMutableBufferPointer { input in
            result.withUnsafeMutableBufferPointer { output in
                withUnsafeMutablePointer(to: &spare) { spare in
                    var stream = z_stream()
                    guard
                        inflateInit2_(
                            &stream, windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
                    else { return false }
                    defer { inflateEnd(&stream) }
                    stream.next_in = input.baseAddress
                    stream.avail_in = UInt32(input.count)
                    // Nothing expected: a byte of room shows whether something comes all the same.
                    stream.next_out = output.isEmpty ? spare : output.baseAddress
                    stream.avail_out = output.isEmpty ? 1 : UInt32(output.count)
                    return inflate(&stream, Z_FINISH) == Z_STREAM_END && Int(stream.total_out) == byteCount
                }
            }
        }
        return isWhole ? result : nil
    }
}
