/// A small typed value that training state holds beside tensors: a counter, a learning rate, a generator's key.
///
/// Values are exact: a 64-bit integer, the sign of zero and the bits of a NaN survive storage.
public enum Value: Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case unsigned(UInt64)
    case double(Double)
    case string(String)
    case bytes([UInt8])
    case list([Value])
    case dictionary([String: Value])
}

extension Value: Hashable {
    /// Doubles are equal when their bits are, so NaN equals itself and the zeros differ.
    public static func == (left: Value, right: Value) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let first), .bool(let second)): first == second
        case (.integer(let first), .integer(let second)): first == second
        case (.unsigned(let first), .unsigned(let second)): first == second
        case (.double(let first), .double(let second)): first.bitPattern == second.bitPattern
        case (.string(let first), .string(let second)): first.utf8.elementsEqual(second.utf8)
        case (.bytes(let first), .bytes(let second)): first == second
        case (.list(let first), .list(let second)): first == second
        case (.dictionary(let first), .dictionary(let second)): first == second
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0)
        case .bool(let value): hasher.combine(value)
        case .integer(let value): hasher.combine(value)
        case .unsigned(let value): hasher.combine(value)
        case .double(let value): hasher.combine(value.bitPattern)
        case .string(let value): hasher.combine(value)
        case .bytes(let value): hasher.combine(value)
        case .list(let values): hasher.combine(values)
        case .dictionary(let values): hasher.combine(values)
        }
    }
}

extension Value: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByStringLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: Value...) { self = .list(elements) }
    /// The last of two equal keys wins.
    public init(dictionaryLiteral elements: (String, Value)...) {
        self = .dictionary(Dictionary(elements, uniquingKeysWith: { $1 }))
    }
}

extension Value {
    /// Whether it is null.
    package var isNull: Bool { if case .null = self { true } else { false } }

    /// The truth value; `nil` for anything else.
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }

    /// The integer, signed or not; `nil` for anything else, and for one that an `Int` cannot hold.
    public var int: Int? {
        switch self {
        case .integer(let value): Int(exactly: value)
        case .unsigned(let value): Int(exactly: value)
        default: nil
        }
    }

    /// The integer as an unsigned one; `nil` for anything else, and for a negative one.
    public var uint64: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .unsigned(let value): value
        default: nil
        }
    }

    /// The number; `nil` for anything else, and for an integer that a `Double` cannot hold exactly.
    public var double: Double? {
        switch self {
        case .double(let value): value
        case .integer(let value): Double(exactly: value)
        case .unsigned(let value): Double(exactly: value)
        default: nil
        }
    }

    /// The text; `nil` for anything else.
    public var string: String? { if case .string(let value) = self { value } else { nil } }

    /// The bytes; `nil` for anything else.
    public var bytes: [UInt8]? { if case .bytes(let value) = self { value } else { nil } }

    /// The elements of a list; `nil` for anything else.
    public var list: [Value]? { if case .list(let values) = self { values } else { nil } }

    /// The entries of a dictionary; `nil` for anything else.
    public var dictionary: [String: Value]? { if case .dictionary(let values) = self { values } else { nil } }

    /// The entry of a dictionary; `nil` where there is none, and for anything else.
    public subscript(key: String) -> Value? { dictionary?[key] }

    /// The element of a list; `nil` where there is none, and for anything else.
    public subscript(index: Int) -> Value? {
        guard let list, list.indices.contains(index) else { return nil }
        return list[index]
    }
}

extension Value {
    /// The truth value.
    public init(_ value: Bool) { self = .bool(value) }

    /// An integer.
    public init(_ value: Int) { self = .integer(Int64(value)) }

    /// An integer, as a signed one where it fits.
    public init(_ value: UInt64) { self = Int64(exactly: value).map { .integer($0) } ?? .unsigned(value) }

    /// A number.
    public init(_ value: Double) { self = .double(value) }

    /// A number, exactly.
    public init(_ value: Float) { self = .double(Double(value)) }

    /// A text.
    public init(_ value: String) { self = .string(value) }

    /// Bytes.
    public init(bytes: some Sequence<UInt8>) { self = .bytes(Array(bytes)) }
}
