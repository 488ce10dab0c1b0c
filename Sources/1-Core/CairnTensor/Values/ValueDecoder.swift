import CairnBase

extension Value {
    /// What ``init(encoding:)`` made a value of.
    ///
    /// A number must fit the type that is asked for: an integer that is too large, or a double that an integer should be, is an
    /// error; doubles are rounded to a `Float`.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` for a value of another form, saying where in it; what the type's own
    ///   `init(from:)` throws.
    public func decoded<Content: Decodable>(as type: Content.Type = Content.self) throws -> Content {
        do {
            return try ValueDecoder(value: self, codingPath: []).decode(type)
        } catch let error as DecodingError {
            let context: DecodingError.Context
            switch error {
            case .typeMismatch(_, let found), .valueNotFound(_, let found), .dataCorrupted(let found): context = found
            case .keyNotFound(let key, let found):
                context = .init(
                    codingPath: found.codingPath, debugDescription: "there is no \"\(key.stringValue)\"")
            @unknown default: throw error
            }
            throw CairnError(
                .mismatch, "the value is no \(Content.self): \(context.debugDescription)",
                .init(found: context.codingPath.spelled))
        }
    }

    /// What it is, for messages.
    fileprivate var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a truth value"
        case .integer, .unsigned: "an integer"
        case .double: "a double"
        case .string: "a text"
        case .bytes: "bytes"
        case .list: "a list"
        case .dictionary: "a dictionary"
        }
    }
}

private struct ValueDecoder: Decoder, SingleValueDecodingContainer {
    let value: Value
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard let values = value.dictionary else { throw mismatch(type, "a dictionary") }
        return KeyedDecodingContainer(KeyedContents<Key>(values: values, codingPath: codingPath))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        // Bytes decode as a list of small integers too.
        if let bytes = value.bytes { return ListedContents(values: bytes.map { Value(Int($0)) }, codingPath: codingPath) }
        guard let values = value.list else { throw mismatch([Value].self, "a list") }
        return ListedContents(values: values, codingPath: codingPath)
    }

    func decodeNil() -> Bool { value.isNull }

    func decode(_ type: Bool.Type) throws -> Bool { try require(value.bool, type, "a truth value") }

    func decode(_ type: String.Type) throws -> String { try require(value.string, type, "a text") }

    func decode(_ type: Double.Type) throws -> Double { try require(value.double, type, "a double") }

    func decode(_ type: Float.Type) throws -> Float {
        let double = try decode(Double.self)
        let float = Float(double)
        if float.isInfinite, double.isFinite { throw mismatch(type, "a double that a Float can hold") }
        return float
    }

    func decode(_ type: Int.Type) throws -> Int { try integer(type) }
    func decode(_ type: Int8.Type) throws -> Int8 { try integer(type) }
    func decode(_ type: Int16.Type) throws -> Int16 { try integer(type) }
    func decode(_ type: Int32.Type) throws -> Int32 { try integer(type) }
    func decode(_ type: Int64.Type) throws -> Int64 { try integer(type) }
    func decode(_ type: UInt.Type) throws -> UInt { try integer(type) }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try integer(type) }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try integer(type) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try integer(type) }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try integer(type) }

    func decode<Content: Decodable>(_ type: Content.Type) throws -> Content {
        if type == [UInt8].self, let bytes = value.bytes as? Content { return bytes }
        return try Content(from: self)
    }

    private func integer<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
        let number: Number? =
            switch value {
            case .integer(let value): Number(exactly: value)
            case .unsigned(let value): Number(exactly: value)
            default: nil
            }
        return try require(number, type, "an integer from \(Number.min) to \(Number.max)")
    }

    private func require<Content>(_ content: Content?, _ type: Any.Type, _ expected: String) throws -> Content {
        guard let content else { throw mismatch(type, expected) }
        return content
    }

    private func mismatch(_ type: Any.Type, _ expected: String) -> DecodingError {
        .typeMismatch(type, .init(codingPath: codingPath, debugDescription: "expected \(expected), found \(value.kind)"))
    }
}

private struct ListedContents: UnkeyedDecodingContainer {
    let values: [Value]
    let codingPath: [any CodingKey]
    private(set) var currentIndex = 0

    init(values: [Value], codingPath: [any CodingKey]) {
        self.values = values
        self.codingPath = codingPath
    }

    var count: Int? { values.count }
    var isAtEnd: Bool { currentIndex >= values.count }

    /// The element that comes next; it counts as taken once `body` has made something of it.
    private mutating func take<Content>(_ type: Any.Type, _ body: (ValueDecoder) throws -> Content) throws -> Content {
        let path = codingPath + [ValueKey(intValue: currentIndex)]
        guard !isAtEnd else {
            throw DecodingError.valueNotFound(
                type, .init(codingPath: path, debugDescription: "the list has only \(values.count) elements"))
        }
        let content = try body(ValueDecoder(value: values[currentIndex], codingPath: path))
        currentIndex += 1
        return content
    }

    mutating func decodeNil() throws -> Bool {
        guard !isAtEnd, values[currentIndex].isNull else { return false }
        currentIndex += 1
        return true
    }

    // Every number and text comes here too.
    mutating func decode<Content: Decodable>(_ type: Content.Type) throws -> Content {
        try take(type) { try $0.decode(type) }
    }

    mutating func nestedContainer<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        try take(type) { try $0.container(keyedBy: type) }
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
        try take([Value].self) { try $0.unkeyedContainer() }
    }

    mutating func superDecoder() throws -> any Decoder { try take(Value.self) { $0 } }
}

private struct KeyedContents<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let values: [String: Value]
    let codingPath: [any CodingKey]

    var allKeys: [Key] { values.keys.compactMap { Key(stringValue: $0) } }

    func contains(_ key: Key) -> Bool { values[key.stringValue] != nil }

    private func decoder(_ key: any CodingKey) throws -> ValueDecoder {
        guard let value = values[key.stringValue] else {
            throw DecodingError.keyNotFound(key, .init(codingPath: codingPath, debugDescription: "no such key"))
        }
        return ValueDecoder(value: value, codingPath: codingPath + [key])
    }

    func decodeNil(forKey key: Key) throws -> Bool { try decoder(key).decodeNil() }

    func decode<Content: Decodable>(_ type: Content.Type, forKey key: Key) throws -> Content {
        try decoder(key).decode(type)
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try decoder(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try decoder(key).unkeyedContainer()
    }

    func superDecoder() throws -> any Decoder { try decoder(ValueKey.parent) }

    func superDecoder(forKey key: Key) throws -> any Decoder { try decoder(key) }
}
