import CairnBase

/// Memory for the blocks of one stripe, a row each. One thread uses it at a time.
package final class StripeBuffer: Sendable {
    let rowCount: Int
    let blockByteCount: Int
    private let pitch: Int
    private let memory: AlignedBuffer

    /// Rows whose content is undefined.
    package init(rowCount: Int, blockByteCount: Int) {
        self.rowCount = rowCount
        self.blockByteCount = blockByteCount
        // Rows begin at pages, so that they can be read past the page cache; a page more keeps them out of each other's way in
        // the processor's caches.
        let pages = blockByteCount.dividedRoundingUp(by: AlignedMemory.pageSize)
        pitch = (pages + (blockByteCount >= AlignedMemory.pageSize ? 1 : 0)) * AlignedMemory.pageSize
        memory = AlignedBuffer(byteCount: pitch * rowCount)
    }

    /// Where a row begins, for the code.
    package func base(ofRow row: Int) -> UnsafeMutablePointer<UInt8> {
        precondition((0..<rowCount).contains(row), "no such row")
        return (memory.base + row * pitch).assumingMemoryBound(to: UInt8.self)
    }

    private func row(_ row: Int, _ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
        precondition(range.lowerBound >= 0 && range.upperBound <= blockByteCount, "beyond the block")
        return UnsafeMutableRawBufferPointer(start: base(ofRow: row) + range.lowerBound, count: range.count)
    }

    /// Fills a part of a row.
    func fill<Failure: Error>(
        row: Int, _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(Failure) -> Void
    ) throws(Failure) {
        let bytes = self.row(row, range)
        var span = bytes.mutableBytes
        try body(&span)
    }

    /// Writes single bytes of a row.
    package func write(row: Int, _ body: (UnsafeMutableRawBufferPointer) -> Void) { body(self.row(row, 0..<blockByteCount)) }

    /// Makes a part of a row zero.
    package func clear(row: Int, _ range: Range<Int>) {
        guard !range.isEmpty else { return }
        self.row(row, range).initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Reads a part of a row.
    func read<Result, Failure: Error>(
        row: Int, _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(self.row(row, range)).bytes)
    }

    func checksum(row: Int, _ range: Range<Int>) -> UInt32 { read(row: row, range) { CRC32C.checksum($0) } }

    func isZero(row: Int, _ range: Range<Int>) -> Bool { self.row(row, range).allSatisfy { $0 == 0 } }

    func bytes(ofRow row: Int, count: Int) -> [UInt8] { Array(self.row(row, 0..<count)) }
}
