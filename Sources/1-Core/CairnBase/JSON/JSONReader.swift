/// A pull parser of JSON text (RFC 8259) that builds no tree: the caller asks for the value it expects next.
///
/// Strict: no trailing commas, comments, byte order mark, control characters in strings, lone surrogates, invalid
/// UTF-8, leading zeros or NaN. Nesting is limited, so that no text can exhaust the stack. Names that repeat within an
/// object are handed to the caller as they come.
///
/// ```swift
/// var reader = JSONReader(header.span)
/// try reader.readObject { reader, name throws(JSONError) in
///     switch name {
///     case "step": step = try reader.readInteger()
///     default: break  // a value that the closure leaves alone is checked and skipped
///     }
/// }
/// try reader.finish()
/// ```
///
/// After an error the reader stands somewhere in the text and is of no further use.
package struct JSONReader: ~Escapable {
    /// The deepest nesting that may be asked for. Recursive readers need at most about 1 KiB of stack a level.
    package static let greatestDepth = 256

    let bytes: RawSpan
    let maximumDepth: Int
    var position = 0
    var depth = 0

    /// Starts reading at the first byte.
    ///
    /// - Parameter maximumDepth: How many objects and arrays may be open at once, at most ``greatestDepth``.
    @_lifetime(copy bytes)
    package init(_ bytes: RawSpan, maximumDepth: Int = 64) {
        self.bytes = bytes
        self.maximumDepth = min(maximumDepth, Self.greatestDepth)
    }

    /// Starts reading at the first byte.
    ///
    /// - Parameter maximumDepth: How many objects and arrays may be open at once, at most ``greatestDepth``.
    @_lifetime(copy bytes)
    package init(_ bytes: Span<UInt8>, maximumDepth: Int = 64) {
        self.init(bytes.bytes, maximumDepth: maximumDepth)
    }

    /// The offset of the next byte to read. In the closures of ``readObject(_:)`` and ``readArray(_:)`` it is at first
    /// the offset of the value.
    package var offset: Int { position }

    /// The kind of the next value. Nothing but white space is consumed.
    package mutating func peekKind() throws(JSONError) -> JSONKind {
        skipWhitespace()
        switch nextByte {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "-"), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return .number
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        default: throw unexpected("a value")
        }
    }

    /// Reads an object, and calls `body` for each member when the reader stands at its value.
    ///
    /// `body` reads exactly one value, or none: then the value is skipped.
    package mutating func readObject(
        _ body: (inout JSONReader, _ key: String) throws(JSONError) -> Void
    ) throws(JSONError) {
        try open(.object)
        if consume(UInt8(ascii: "}")) { return close() }
        repeat {
            let key = try readKey()
            let start = position
            try body(&self, key)
            if position == start { try skipValue() }
        } while try continues(until: UInt8(ascii: "}"))
    }

    /// Reads an array, and calls `body` when the reader stands at an element.
    ///
    /// `body` reads exactly one value, or none: then the value is skipped.
    package mutating func readArray(_ body: (inout JSONReader) throws(JSONError) -> Void) throws(JSONError) {
        try open(.array)
        if consume(UInt8(ascii: "]")) { return close() }
        repeat {
            skipWhitespace()
            let start = position
            try body(&self)
            if position == start { try skipValue() }
        } while try continues(until: UInt8(ascii: "]"))
    }

    /// Reads `true` or `false`.
    package mutating func readBool() throws(JSONError) -> Bool {
        try expect(.bool)
        if nextByte == UInt8(ascii: "t") {
            try readWord("true")
            return true
        }
        try readWord("false")
        return false
    }

    /// Reads `null`.
    package mutating func readNull() throws(JSONError) {
        try expect(.null)
        try readWord("null")
    }

    /// Throws unless nothing but white space follows.
    package mutating func finish() throws(JSONError) {
        skipWhitespace()
        if position < bytes.byteCount { throw unexpected("the end of the text") }
    }

    /// An error at the current offset, for what only the caller can know to be wrong.
    package func error(_ message: String) -> JSONError {
        JSONError(offset: position, message)
    }
}

extension JSONReader {
    /// Reads the next value and forgets it, checking it as strictly as any other. Does not recurse.
    package mutating func skipValue() throws(JSONError) {
        var kind = try peekKind()
        guard kind == .object || kind == .array else { return try skipScalar(kind) }
        var closers: [UInt8] = []
        while true {
            switch kind {
            case .object, .array:
                try open(kind)
                closers.append(kind == .object ? UInt8(ascii: "}") : UInt8(ascii: "]"))
                if consume(closers[closers.count - 1]) {
                    close()
                    closers.removeLast()
                } else {
                    kind = try nextKind(closer: closers[closers.count - 1])
                    continue
                }
            default:
                try skipScalar(kind)
            }
            while let closer = closers.last, try !continues(until: closer) { closers.removeLast() }
            guard let closer = closers.last else { return }
            kind = try nextKind(closer: closer)
        }
    }

    /// The kind of the next element, or of the value of the next member, whose name is skipped.
    private mutating func nextKind(closer: UInt8) throws(JSONError) -> JSONKind {
        if closer == UInt8(ascii: "}") { try skipKey() }
        return try peekKind()
    }

    private mutating func skipScalar(_ kind: JSONKind) throws(JSONError) {
        switch kind {
        case .string: _ = try scanString()
        case .number: _ = try scanNumber()
        case .bool: _ = try readBool()
        default: try readNull()
        }
    }

    private mutating func readKey() throws(JSONError) -> String {
        try expectKey()
        let key = try readString()
        try readColon()
        return key
    }

    private mutating func skipKey() throws(JSONError) {
        try expectKey()
        _ = try scanString()
        try readColon()
    }

    private mutating func expectKey() throws(JSONError) {
        skipWhitespace()
        if nextByte != UInt8(ascii: "\"") { throw unexpected("the name of a member in quotes") }
    }

    private mutating func readColon() throws(JSONError) {
        if !consume(UInt8(ascii: ":")) { throw unexpected("':' after the name of a member") }
        skipWhitespace()
    }

    /// Consumes the first byte of an object or array and counts the level.
    private mutating func open(_ kind: JSONKind) throws(JSONError) {
        try expect(kind)
        guard depth < maximumDepth else { throw error("values are nested more than \(maximumDepth) levels deep") }
        depth += 1
        position += 1
    }

    private mutating func close() { depth -= 1 }

    /// After an element: consumes a comma and returns true, or consumes `closer` and returns false.
    private mutating func continues(until closer: UInt8) throws(JSONError) -> Bool {
        if consume(UInt8(ascii: ",")) { return true }
        if consume(closer) {
            close()
            return false
        }
        throw unexpected("',' or '\(Character(Unicode.Scalar(closer)))'")
    }

    private mutating func readWord(_ word: StaticString) throws(JSONError) {
        for index in 0..<word.utf8CodeUnitCount {
            if nextByte != word.utf8Start[index] { throw unexpected("'\(word)'") }
            position += 1
        }
    }

    /// Passes over white space, then over `byte` if that is what follows.
    @inline(__always) private mutating func consume(_ byte: UInt8) -> Bool {
        skipWhitespace()
        guard nextByte == byte else { return false }
        position += 1
        return true
    }

    @inline(__always) mutating func skipWhitespace() {
        if let byte = nextByte, byte <= UInt8(ascii: " ") { skipWhitespaceRun() }
    }

    private mutating func skipWhitespaceRun() {
        while let byte = nextByte, byte <= UInt8(ascii: " ") {
            switch byte {
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): position += 1
            default: return
            }
        }
    }

    /// Throws, naming what was found, unless the next value is of this kind.
    mutating func expect(_ kind: JSONKind) throws(JSONError) {
        let found = try peekKind()
        if found != kind { throw error("expected \(kind), found \(found)") }
    }

    /// The byte at the position, `nil` at the end.
    @inline(__always) var nextByte: UInt8? {
        position < bytes.byteCount ? byte(at: position) : nil
    }

    @inline(__always) func byte(at offset: Int) -> UInt8 {
        bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    func unexpected(_ expected: String) -> JSONError {
        error("expected \(expected), found \(describe(nextByte))")
    }

    private func describe(_ byte: UInt8?) -> String {
        switch byte {
        case nil: "the end of the text"
        case .some(0x21...0x7e): "'\(Character(Unicode.Scalar(byte ?? 0)))'"
        case .some(let other): "byte 0x" + (other < 16 ? "0" : "") + String(other, radix: 16)
        }
    }
}
