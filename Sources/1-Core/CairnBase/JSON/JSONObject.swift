/// The members of a JSON object in their order, found by name in constant time.
///
/// Names are compared byte by byte, as RFC 8259 (8.3) asks: unlike with `String`'s own `==`, two spellings of an
/// accented letter are two names.
package struct JSONObject: Sendable {
    /// A name and its value.
    package struct Member: Sendable, Equatable {
        /// The name.
        package let key: String
        /// The value.
        package internal(set) var value: JSONValue
    }

    private struct ExactName: Hashable {
        var name: String

        static func == (one: ExactName, other: ExactName) -> Bool { one.name.hasSameBytes(as: other.name) }

        func hash(into hasher: inout Hasher) { hasher.combine(name) }
    }

    /// The members in order.
    package private(set) var members: [Member] = []

    /// Where each name is in `members`; kept only for objects of more than `smallCount` members.
    private var positions: [ExactName: Int] = [:]
    private static let smallCount = 8

    /// An empty object.
    package init() {}

    /// Adds a member at the end, unless there is one of that name.
    ///
    /// - Returns: Whether the member was added.
    package mutating func append(_ key: String, _ value: JSONValue) -> Bool {
        if position(of: key) != nil { return false }
        members.append(Member(key: key, value: value))
        if members.count == Self.smallCount + 1 {
            for (position, member) in members.enumerated() { positions[ExactName(name: member.key)] = position }
        } else if members.count > Self.smallCount {
            positions[ExactName(name: key)] = members.count - 1
        }
        return true
    }

    /// The value of a member, `nil` if there is none. Setting replaces the value in place or adds a member at the end;
    /// setting `nil` removes the member.
    package subscript(key: String) -> JSONValue? {
        get { position(of: key).map { members[$0].value } }
        set {
            switch (position(of: key), newValue) {
            case (let position?, let value?): members[position].value = value
            case (let position?, nil): remove(at: position)
            case (nil, let value?): _ = append(key, value)
            case (nil, nil): break
            }
        }
    }

    private func position(of key: String) -> Int? {
        if members.count > Self.smallCount { return positions[ExactName(name: key)] }
        return members.firstIndex { $0.key.hasSameBytes(as: key) }
    }

    private mutating func remove(at position: Int) {
        let rest = members[..<position] + members[(position + 1)...]
        self = JSONObject()
        for member in rest { _ = append(member.key, member.value) }
    }
}

extension JSONObject: Equatable {
    /// Whether both have the same members in the same order.
    package static func == (one: JSONObject, other: JSONObject) -> Bool { one.members == other.members }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
    /// The members in the order of the literal; of a repeated name, the last value at the first place.
    package init(dictionaryLiteral members: (String, JSONValue)...) {
        for (key, value) in members { self[key] = value }
    }
}

extension JSONObject {
    /// The value of a member that has to be there.
    package func value(_ key: String) throws(JSONError) -> JSONValue {
        guard let value = self[key] else { throw JSONError("the member \"\(key)\" is missing") }
        return value
    }

    /// The member as an object; the error names the member.
    package func object(_ key: String) throws(JSONError) -> JSONObject {
        try read(key) { value throws(JSONError) in try value.asObject() }
    }

    /// The member as an array; the error names the member.
    package func array(_ key: String) throws(JSONError) -> [JSONValue] {
        try read(key) { value throws(JSONError) in try value.asArray() }
    }

    /// The member as a string; the error names the member.
    package func string(_ key: String) throws(JSONError) -> String {
        try read(key) { value throws(JSONError) in try value.asString() }
    }

    /// The member as an integer; the error names the member.
    package func integer(_ key: String) throws(JSONError) -> Int {
        try read(key) { value throws(JSONError) in try value.asInteger() }
    }

    /// The member as an integer that is not negative; the error names the member.
    package func uint64(_ key: String) throws(JSONError) -> UInt64 {
        try read(key) { value throws(JSONError) in try value.asUInt64() }
    }

    /// The member as a double, which integers are turned into; the error names the member.
    package func double(_ key: String) throws(JSONError) -> Double {
        try read(key) { value throws(JSONError) in try value.asDouble() }
    }

    /// The member as a boolean; the error names the member.
    package func bool(_ key: String) throws(JSONError) -> Bool {
        try read(key) { value throws(JSONError) in try value.asBool() }
    }

    private func read<Value>(
        _ key: String, as convert: (JSONValue) throws(JSONError) -> Value
    ) throws(JSONError) -> Value {
        let value = try value(key)
        do {
            return try convert(value)
        } catch {
            throw JSONError("the member \"\(key)\": \(error.message)")
        }
    }
}

extension String {
    fileprivate func hasSameBytes(as other: String) -> Bool {
        utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
    }
}

extension JSONObject {
    /// A result for other programs, without a line feed at the end: its schema in front, then the members.
    package func document(_ schema: String) throws(CairnError) -> [UInt8] {
        var document: JSONObject = ["schema": .string(schema)]
        for member in members { document[member.key] = member.value }
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 110))
        do throws(JSONError) {
            try writer.write(.object(document))
        } catch {
            throw CairnError(.unsupported, "the result cannot be written as JSON", cause: error)
        }
        return writer.finish()
    }
}
