public import CairnBase

extension Storage {
    /// Reads a whole object into memory.
    ///
    /// Throws `.notFound` when there is none, and `.malformed` when it is larger than `limit` bytes: what should be
    /// small is not worth exhausting the memory for.
    public func readAll(_ key: String, limit: Int = .max) throws(CairnError) -> [UInt8] {
        let file = try open(key)
        guard file.byteCount <= limit else {
            throw CairnError(
                .malformed, "the file is larger than it can be",
                .init(file: key, expected: "at most \(limit) bytes", found: "\(file.byteCount) bytes"))
        }
        return try file.bytes(in: 0..<file.byteCount)
    }
}

extension StorageFile {
    /// Reads the bytes of `range` into memory. Throws `.incomplete`, before allocating, when the object ends too early.
    public func bytes(in range: Range<Int>) throws(CairnError) -> [UInt8] {
        try StorageKey.validate(offset: range.lowerBound, of: key)
        guard range.upperBound <= byteCount else {
            let found = max(0, byteCount - range.lowerBound)
            throw StorageKey.shortRead(
                of: key, at: range.lowerBound, expected: range.count, found: found, byteCount: byteCount)
        }
        var bytes = [UInt8](repeating: 0, count: range.count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(at: range.lowerBound, into: &raw)
        return bytes
    }
}

extension StorageWriter {
    /// Writes an array of bytes at `offset`. Several threads may write disjoint ranges at once.
    public func write(_ bytes: [UInt8], at offset: Int) throws(CairnError) {
        try write(bytes.span.bytes, at: offset)
    }
}
