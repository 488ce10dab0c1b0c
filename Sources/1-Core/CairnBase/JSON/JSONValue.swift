/// A JSON text as a tree, for documents whose members are not known beforehand.
///
/// Integers and doubles are kept apart by their notation: `1` is an integer, `1.0` and `1e0` are doubles. Large
/// documents are better read with ``JSONReader``.
package enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    /// An integer that fits.
    case integer(Int64)
    /// An integer greater than `Int64.max`.
    case unsigned(UInt64)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// The integer, in the case that it belongs to.
    package init(_ value: UInt64) {
        self = Int64(exactly: value).map { .integer($0) } ?? .unsigned(value)
    }

    /// Reads a whole text, strictly (see ``JSONReader``); a name that repeats within an object is an error.
    ///
    /// - Parameter maximumDepth: How many objects and arrays may be open at once, at most
    ///   ``JSONReader/greatestDepth``.
    package init(parsing bytes: Span<UInt8>, maximumDepth: Int = 64) throws(JSONError) {
        var reader = JSONReader(bytes, maximumDepth: maximumDepth)
        self = try reader.readValue()
        try reader.finish()
    }

    /// Reads a whole text, strictly (see ``JSONReader``); a name that repeats within an object is an error.
    ///
    /// - Parameter maximumDepth: How many objects and arrays may be open at once, at most
    ///   ``JSONReader/greatestDepth``.
    package init(parsing bytes: [UInt8], maximumDepth: Int = 64) throws(JSONError) {
        try self.init(parsing: bytes.span, maximumDepth: maximumDepth)
    }

    /// Reads a whole text, strictly (see ``JSONReader``); a name that repeats within an object is an error.
    ///
    /// - Parameter maximumDepth: How many objects and arrays may be open at once, at most
    ///   ``JSONReader/greatestDepth``.
    package init(parsing text: String, maximumDepth: Int = 64) throws(JSONError) {
        try self.init(parsing: Array(text.utf8), maximumDepth: maximumDepth)
    }

    /// The kind of the value.
    package var kind: JSONKind {
        switch self {
        case .null: .null
        case .bool: .bool
        case .integer, .unsigned, .double: .number
        case .string: .string
        case .array: .array
        case .object: .object
        }
    }
}

extension JSONReader {
    /// Reads the next value as a tree; a name that repeats within an object is an error.
    package mutating func readValue() throws(JSONError) -> JSONValue {
        switch try peekKind() {
        case .null:
            try readNull()
            return .null
        case .bool:
            return .bool(try readBool())
        case .string:
            return .string(try readString())
        case .number:
            switch try readNumber() {
            case .integer(let value): return .integer(value)
            case .unsigned(let value): return .unsigned(value)
            case .double(let value): return .double(value)
            }
        case .array:
            var elements: [JSONValue] = []
            try readArray { reader throws(JSONError) in elements.append(try reader.readValue()) }
            return .array(elements)
        case .object:
            var object = JSONObject()
            try readObject { reader, key throws(JSONError) in
                let offset = reader.offset
                if !object.append(key, try reader.readValue()) {
                    throw JSONError(offset: offset, "the member \"\(key)\" repeats")
                }
            }
            return .object(object)
        }
    }
}

extension JSONValue {
    /// The members, if this is an object.
    package func asObject() throws(JSONError) -> JSONObject {
        guard case .object(let object) = self else { throw mismatch("an object") }
        return object
    }

    /// The elements, if this is an array.
    package func asArray() throws(JSONError) -> [JSONValue] {
        guard case .array(let elements) = self else { throw mismatch("an array") }
        return elements
    }

    /// The text, if this is a string.
    package func asString() throws(JSONError) -> String {
        guard case .string(let string) = self else { throw mismatch("a string") }
        return string
    }

    /// The value, if this is a boolean.
    package func asBool() throws(JSONError) -> Bool {
        guard case .bool(let bool) = self else { throw mismatch("a boolean") }
        return bool
    }

    /// The value, if this is an integer that fits. A double never is, whatever its value.
    package func asInteger() throws(JSONError) -> Int {
        guard case .integer(let value) = self, let integer = Int(exactly: value) else {
            throw mismatch("an integer from \(Int.min) to \(Int.max)")
        }
        return integer
    }

    /// The value, if this is an integer that is not negative. A double never is, whatever its value.
    package func asUInt64() throws(JSONError) -> UInt64 {
        if case .unsigned(let value) = self { return value }
        guard case .integer(let value) = self, let unsigned = UInt64(exactly: value) else {
            throw mismatch("an integer from 0 to \(UInt64.max)")
        }
        return unsigned
    }

    /// The value, if this is a number. Integers beyond 2^53 are rounded.
    package func asDouble() throws(JSONError) -> Double {
        switch self {
        case .double(let value): return value
        case .integer(let value): return Double(value)
        case .unsigned(let value): return Double(value)
        default: throw mismatch("a number")
        }
    }

    private func mismatch(_ expected: String) -> JSONError {
        let found =
            switch self {
            case .bool(let value): "\(value)"
            case .integer(let value): "\(value)"
            case .unsigned(let value): "\(value)"
            case .double(let value): "\(value)"
            case .string(let value) where value.utf8.count <= 40: "the string \"\(value)\""
            default: kind.description
            }
        return JSONError("expected \(expected), found \(found)")
    }
}

/// A JSON number: exact where it is written as an integer, a double where it has a fraction or an exponent.
package enum JSONNumber: Hashable, Sendable {
    /// An integer that fits.
    case integer(Int64)
    /// An integer greater than `Int64.max`.
    case unsigned(UInt64)
    /// A number written with `.`, `e` or `E`.
    case double(Double)
}

/// The six kinds of JSON values, as far as the first character tells.
package enum JSONKind: Hashable, Sendable, CustomStringConvertible {
    case object, array, string, number, bool, null

    /// The kind with its article, for error messages.
    package var description: String {
        switch self {
        case .object: "an object"
        case .array: "an array"
        case .string: "a string"
        case .number: "a number"
        case .bool: "a boolean"
        case .null: "null"
        }
    }
}

/// Why a JSON text could not be read, or a value not be used or written as asked.
package struct JSONError: Error, Hashable, CustomStringConvertible {
    /// The offset in the text, in bytes; `nil` if the error concerns a value and not a place in a text.
    package var offset: Int?
    /// What was expected and what was found.
    package var message: String

    package init(offset: Int? = nil, _ message: String) {
        self.offset = offset
        self.message = message
    }

    package var description: String {
        guard let offset else { return message }
        return "offset \(offset): \(message)"
    }

    /// The error as users see it, with the offset counted from the beginning of `file`.
    ///
    /// - Parameter baseOffset: Where the JSON text begins in the file, in bytes.
    package func cairnError(file: String, baseOffset: Int = 0) -> CairnError {
        let position = offset.flatMap { $0.adding(checked: baseOffset) }
        return CairnError(.malformed, message, CairnError.Context(file: file, offset: position))
    }
}
