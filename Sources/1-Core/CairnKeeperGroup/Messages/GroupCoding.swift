import CairnBase

/// Writes the parts of a message one after the other.
struct GroupWriter {
    var bytes: [UInt8] = []

    mutating func write(_ value: Int) { bytes.append(littleEndian: UInt64(bitPattern: Int64(value))) }
    mutating func write(_ value: UInt32) { bytes.append(littleEndian: value) }
    mutating func write(_ value: Bool) { bytes.append(value ? 1 : 0) }

    mutating func write(_ text: String) {
        write(text.utf8.count)
        bytes += text.utf8
    }

    mutating func write(_ data: [UInt8]) {
        write(data.count)
        bytes += data
    }
}

/// Reads the parts of a message, none of which it believes.
struct GroupReader {
    private let bytes: ArraySlice<UInt8>
    private var position: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    private mutating func take(_ count: Int) throws(CairnError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= bytes.endIndex - position else { throw Self.malformed("ends too early") }
        defer { position += count }
        return bytes[position..<position + count]
    }

    mutating func integer() throws(CairnError) -> Int {
        let value = try take(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard value <= UInt64(1) << 62 else { throw Self.malformed("has a number out of range") }
        return Int(value)
    }

    mutating func checksum() throws(CairnError) -> UInt32 {
        try take(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    }

    mutating func byte() throws(CairnError) -> UInt8 { try take(1).first ?? 0 }

    mutating func bool() throws(CairnError) -> Bool {
        switch try byte() {
        case 0: return false
        case 1: return true
        default: throw Self.malformed("has a truth value that is none")
        }
    }

    /// A number of parts, each of which takes so many bytes at least.
    mutating func count(eachAtLeast byteCount: Int) throws(CairnError) -> Int {
        let count = try integer()
        guard count <= (bytes.endIndex - position) / max(1, byteCount) else { throw Self.malformed("has too large a count") }
        return count
    }

    mutating func text() throws(CairnError) -> String {
        let part = try take(try integer())
        guard let text = String(validating: part, as: UTF8.self) else { throw Self.malformed("has a text that is none") }
        return text
    }

    mutating func data() throws(CairnError) -> [UInt8] { Array(try take(try integer())) }

    func end() throws(CairnError) {
        guard position == bytes.endIndex else { throw Self.malformed("has bytes after its end") }
    }

    static func malformed(_ flaw: String) -> CairnError {
        CairnError(.malformed, "a message of another keeper \(flaw)")
    }
}
