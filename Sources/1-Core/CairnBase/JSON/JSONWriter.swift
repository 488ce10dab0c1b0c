/// Appends JSON text to a byte array, piece by piece or a tree at once. The same calls always give the same bytes.
///
/// ```swift
/// var writer = JSONWriter(style: .pretty(maximumInlineWidth: 80))
/// writer.beginObject()
/// writer.key("step")
/// writer.write(400)
/// writer.endObject()
/// let bytes = writer.finish()
/// ```
///
/// Calls that do not make up a JSON text, such as two keys in a row, are errors of the program and trap.
package struct JSONWriter {
    /// Where white space goes.
    package enum Style: Hashable, Sendable {
        /// No white space.
        case compact
        /// A line for each element, indented by two spaces a level, but objects and arrays whose text has at most
        /// `maximumInlineWidth` bytes on one line.
        case pretty(maximumInlineWidth: Int)
    }

    /// An object or array that has been begun and not ended.
    private struct Level {
        var isObject: Bool
        var start: Int
        var count = 0
        var awaitsValue = false
    }

    private let style: Style
    private var bytes: [UInt8] = []
    private var levels: [Level] = []
    private var isComplete = false

    /// An empty text.
    package init(style: Style = .compact) {
        self.style = style
    }

    /// Ends the text, which must be one whole value, and returns its bytes, without a newline at the end.
    package consuming func finish() -> [UInt8] {
        precondition(isComplete, "a JSON text is one whole value")
        return bytes
    }

    /// Begins an object; keys and values follow in turn.
    package mutating func beginObject() { begin(isObject: true, UInt8(ascii: "{")) }

    /// Ends the object that was begun last.
    package mutating func endObject() { end(isObject: true, UInt8(ascii: "}")) }

    /// Begins an array; its elements follow.
    package mutating func beginArray() { begin(isObject: false, UInt8(ascii: "[")) }

    /// Ends the array that was begun last.
    package mutating func endArray() { end(isObject: false, UInt8(ascii: "]")) }

    /// Writes the name of the next member of an object. That it does not repeat is the caller's duty.
    package mutating func key(_ name: String) {
        guard let level = levels.last, level.isObject, !level.awaitsValue else {
            preconditionFailure("a key belongs before a value in an object")
        }
        separate()
        levels[levels.count - 1].awaitsValue = true
        appendQuoted(name)
        bytes.append(UInt8(ascii: ":"))
        if style != .compact { bytes.append(UInt8(ascii: " ")) }
    }

    /// Writes `null`.
    package mutating func writeNull() { writeScalar("null") }

    /// Writes `true` or `false`.
    package mutating func write(_ value: Bool) { writeScalar(value ? "true" : "false") }

    /// Writes an integer, exactly.
    package mutating func write(_ value: Int) { writeScalar(String(value)) }

    /// Writes an integer, exactly.
    package mutating func write(_ value: Int64) { writeScalar(String(value)) }

    /// Writes an integer, exactly.
    package mutating func write(_ value: UInt64) { writeScalar(String(value)) }

    /// Writes the shortest text that is read back as the same double, and never as an integer.
    ///
    /// - Throws: If the value is infinite or not a number, which JSON cannot express; nothing is written then.
    package mutating func write(_ value: Double) throws(JSONError) {
        guard value.isFinite else { throw JSONError("JSON has no notation for the number \(value)") }
        writeScalar(value.description)
    }

    /// Writes a string.
    package mutating func write(_ value: String) {
        beginValue()
        appendQuoted(value)
        endValue()
    }

    /// Writes a tree.
    ///
    /// - Throws: If it holds a double that is infinite or not a number; the text is then of no further use.
    package mutating func write(_ value: JSONValue) throws(JSONError) {
        switch value {
        case .null: writeNull()
        case .bool(let value): write(value)
        case .integer(let value): write(value)
        case .unsigned(let value): write(value)
        case .double(let value): try write(value)
        case .string(let value): write(value)
        case .array(let elements):
            beginArray()
            for element in elements { try write(element) }
            endArray()
        case .object(let object):
            beginObject()
            for member in object.members {
                key(member.key)
                try write(member.value)
            }
            endObject()
        }
    }
}

extension JSONWriter {
    private mutating func begin(isObject: Bool, _ opener: UInt8) {
        beginValue()
        levels.append(Level(isObject: isObject, start: bytes.count))
        bytes.append(opener)
    }

    private mutating func end(isObject: Bool, _ closer: UInt8) {
        guard let level = levels.popLast(), level.isObject == isObject, !level.awaitsValue else {
            preconditionFailure("an end belongs to the object or array begun last, after its last value")
        }
        if case .pretty(let maximumInlineWidth) = style, level.count > 0 {
            let whitespace = level.count * (3 + 2 * levels.count)
            let separators = level.count - 1
            // Wrong only if an element takes several lines, and then that is too wide already.
            let inlineWidth = bytes.count - level.start - whitespace + separators + 1
            if inlineWidth <= maximumInlineWidth {
                joinLines(from: level.start)
            } else {
                breakLine()
            }
        }
        bytes.append(closer)
        endValue()
    }

    private mutating func writeScalar(_ text: String) {
        beginValue()
        bytes.append(contentsOf: text.utf8)
        endValue()
    }

    private mutating func beginValue() {
        precondition(!isComplete, "a JSON text is one value")
        guard let level = levels.last else { return }
        if level.isObject {
            precondition(level.awaitsValue, "a value in an object follows a key")
            levels[levels.count - 1].awaitsValue = false
        } else {
            separate()
        }
    }

    private mutating func endValue() { isComplete = levels.isEmpty }

    /// Separates a member or element from the one before.
    private mutating func separate() {
        if levels[levels.count - 1].count > 0 { bytes.append(UInt8(ascii: ",")) }
        levels[levels.count - 1].count += 1
        if style != .compact { breakLine() }
    }

    private mutating func breakLine() {
        bytes.append(UInt8(ascii: "\n"))
        bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * levels.count))
    }

    /// Puts what was written from `start` on on one line. Newlines are never within strings, where they are escaped.
    private mutating func joinLines(from start: Int) {
        var end = start
        var isIndentation = false
        for index in start..<bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\n") {
                isIndentation = true
                if bytes[end - 1] == UInt8(ascii: ",") {
                    bytes[end] = UInt8(ascii: " ")
                    end += 1
                }
            } else if !isIndentation || byte != UInt8(ascii: " ") {
                isIndentation = false
                bytes[end] = byte
                end += 1
            }
        }
        bytes.removeLast(bytes.count - end)
    }

    private mutating func appendQuoted(_ text: String) {
        var text = text
        bytes.append(UInt8(ascii: "\""))
        text.withUTF8 { utf8 in
            var plainStart = 0
            for (index, byte) in utf8.enumerated() where byte < 0x20 || byte == 0x22 || byte == 0x5c {
                bytes.append(contentsOf: utf8[plainStart..<index])
                appendEscape(byte)
                plainStart = index + 1
            }
            bytes.append(contentsOf: utf8[plainStart...])
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// Escapes a quote, a backslash or a control character: what RFC 8259 (7) requires and nothing else.
    private mutating func appendEscape(_ byte: UInt8) {
        bytes.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: bytes.append(UInt8(ascii: "b"))
        case 0x09: bytes.append(UInt8(ascii: "t"))
        case 0x0a: bytes.append(UInt8(ascii: "n"))
        case 0x0c: bytes.append(UInt8(ascii: "f"))
        case 0x0d: bytes.append(UInt8(ascii: "r"))
        case 0x22, 0x5c: bytes.append(byte)
        default: bytes.append(contentsOf: ("u00" + Hexadecimal.encode([byte])).utf8)
        }
    }
}
