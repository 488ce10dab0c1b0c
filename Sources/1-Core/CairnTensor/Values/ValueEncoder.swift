import CairnBase

extension Value {
    /// The value that stands for anything `Encodable`: a configuration, the state of a data loader.
    ///
    /// Structures and dictionaries become dictionaries, arrays lists, `[UInt8]` bytes; numbers stay exact. ``decoded(as:)`` is
    /// the way back.
    ///
    /// ```swift
    /// state.set(try Value(encoding: loader.position), for: "loader")
    /// ```
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for what cannot be encoded, saying where in it; what its own `encode(to:)`
    ///   throws.
    public init(encoding value: some Encodable) throws {
        do {
            self = try ValueBox.encode(value, at: [])
        } catch let error as EncodingError {
            guard case .invalidValue(_, let context) = error else { throw error }
            throw CairnError(
                .invalidArgument, "this cannot be a value: \(context.debugDescription)",
                .init(found: context.codingPath.spelled))
        }
    }
}

extension [any CodingKey] {
    /// For messages: `optimizer.groups.0`.
    var spelled: String {
        isEmpty ? "at the top" : map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
}

/// A place in a value that is being made.
private final class ValueBox {
    private enum Content {
        case nothing
        case single(Value)
        case list([ValueBox])
        case dictionary([String: ValueBox])
    }

    private var content = Content.nothing

    static func encode(_ value: some Encodable, at path: [any CodingKey]) throws -> Value {
        // The type is asked for too: an empty array of anything can be taken for one of bytes.
        if type(of: value) == [UInt8].self, let bytes = value as? [UInt8] { return .bytes(bytes) }
        let box = ValueBox()
        try value.encode(to: ValueEncoder(box: box, codingPath: path))
        return box.value
    }

    var value: Value {
        switch content {
        // What encodes nothing at all is an empty structure.
        case .nothing: .dictionary([:])
        case .single(let value): value
        case .list(let boxes): .list(boxes.map(\.value))
        case .dictionary(let boxes): .dictionary(boxes.mapValues(\.value))
        }
    }

    func set(_ value: Value) { content = .single(value) }

    func becomeList() { if case .list = content {} else { content = .list([]) } }

    func becomeDictionary() { if case .dictionary = content {} else { content = .dictionary([:]) } }

    var count: Int { if case .list(let boxes) = content { boxes.count } else { 0 } }

    func append() -> ValueBox {
        let box = ValueBox()
        if case .list(var boxes) = content {
            content = .nothing
            boxes.append(box)
            content = .list(boxes)
        }
        return box
    }

    func entry(_ key: String) -> ValueBox {
        let box = ValueBox()
        if case .dictionary(var boxes) = content {
            content = .nothing
            boxes[key] = box
            content = .dictionary(boxes)
        }
        return box
    }
}

private struct ValueEncoder: Encoder {
    let box: ValueBox
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        box.becomeDictionary()
        return KeyedEncodingContainer(KeyedValues<Key>(box: box, codingPath: codingPath))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        box.becomeList()
        return ListedValues(box: box, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { SingleValue(box: box, codingPath: codingPath) }
}

/// A coding key that is a text or a place.
struct ValueKey: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(stringValue: String) {
        self.stringValue = stringValue
        intValue = nil
    }

    init(intValue: Int) {
        stringValue = String(intValue)
        self.intValue = intValue
    }

    static let parent = ValueKey(stringValue: "super")
}

private struct SingleValue: SingleValueEncodingContainer {
    let box: ValueBox
    let codingPath: [any CodingKey]

    func encodeNil() { box.set(.null) }
    func encode(_ value: Bool) { box.set(.bool(value)) }
    func encode(_ value: String) { box.set(.string(value)) }
    func encode(_ value: Double) { box.set(.double(value)) }
    func encode(_ value: Float) { box.set(.double(Double(value))) }
    func encode(_ value: Int) { box.set(.integer(Int64(value))) }
    func encode(_ value: Int8) { box.set(.integer(Int64(value))) }
    func encode(_ value: Int16) { box.set(.integer(Int64(value))) }
    func encode(_ value: Int32) { box.set(.integer(Int64(value))) }
    func encode(_ value: Int64) { box.set(.integer(value)) }
    func encode(_ value: UInt) { box.set(Value(UInt64(value))) }
    func encode(_ value: UInt8) { box.set(.integer(Int64(value))) }
    func encode(_ value: UInt16) { box.set(.integer(Int64(value))) }
    func encode(_ value: UInt32) { box.set(.integer(Int64(value))) }
    func encode(_ value: UInt64) { box.set(Value(value)) }
    func encode(_ value: some Encodable) throws { box.set(try ValueBox.encode(value, at: codingPath)) }
}

private struct ListedValues: UnkeyedEncodingContainer {
    let box: ValueBox
    let codingPath: [any CodingKey]
    var count: Int { box.count }

    private var path: [any CodingKey] { codingPath + [ValueKey(intValue: count)] }

    func encodeNil() { box.append().set(.null) }

    // Every number and text comes here too, and takes its own way from there.
    func encode(_ value: some Encodable) throws {
        let encoded = try ValueBox.encode(value, at: path)
        box.append().set(encoded)
    }

    func nestedContainer<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        let path = path
        return ValueEncoder(box: box.append(), codingPath: path).container(keyedBy: type)
    }

    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
        let path = path
        return ValueEncoder(box: box.append(), codingPath: path).unkeyedContainer()
    }

    func superEncoder() -> any Encoder {
        let path = path
        return ValueEncoder(box: box.append(), codingPath: path)
    }
}

private struct KeyedValues<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let box: ValueBox
    let codingPath: [any CodingKey]

    func encodeNil(forKey key: Key) { box.entry(key.stringValue).set(.null) }

    func encode(_ value: some Encodable, forKey key: Key) throws {
        box.entry(key.stringValue).set(try ValueBox.encode(value, at: codingPath + [key]))
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> {
        encoder(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { encoder(key).unkeyedContainer() }

    func superEncoder() -> any Encoder { encoder(ValueKey.parent) }

    func superEncoder(forKey key: Key) -> any Encoder { encoder(key) }

    private func encoder(_ key: any CodingKey) -> ValueEncoder {
        ValueEncoder(box: box.entry(key.stringValue), codingPath: codingPath + [key])
    }
}
