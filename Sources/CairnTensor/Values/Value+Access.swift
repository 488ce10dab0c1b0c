extension Value {
    /// Whether it is null.
    public var isNull: Bool { if case .null = self { true } else { false } }

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
