package import CairnBase
package import CairnTensor

/// Typed values as JSON, exactly.
///
/// Null, booleans, strings, lists and 64-bit integers are their JSON selves; a number with a point or an exponent is a
/// double. What JSON lacks is an object with one `$` key: `{"$u64": "5"}`, `{"$bytes": "base64"}`, and
/// `{"$f64": "7ff8000000000000"}` (the bits) for doubles that are not finite. A dictionary is an object whose keys that
/// begin with `$` get another `$` in front.
package enum ValueCoding {
    private static let maximumDepth = 32

    /// - Throws: ``CairnError/Code/invalidArgument`` when a value is nested deeper than 32 levels.
    package static func json(_ value: Value, depth: Int = 0) throws(CairnError) -> JSONValue {
        guard depth <= maximumDepth else {
            throw CairnError(.invalidArgument, "a value is nested deeper than \(maximumDepth) levels")
        }
        switch value {
        case .null: return .null
        case .bool(let value): return .bool(value)
        case .integer(let value): return .integer(value)
        case .unsigned(let value): return tagged("$u64", String(value))
        case .double(let value):
            return value.isFinite ? .double(value) : tagged("$f64", hexadecimal(value.bitPattern))
        case .string(let value): return .string(value)
        case .bytes(let value): return tagged("$bytes", Base64.encode(value))
        case .list(let values):
            var elements: [JSONValue] = []
            for value in values { elements.append(try json(value, depth: depth + 1)) }
            return .array(elements)
        case .dictionary(let values):
            var object = JSONObject()
            for key in values.keys.sorted(by: { ExactString($0) < ExactString($1) }) {
                guard let value = values[key] else { continue }
                _ = object.append(key.utf8.first == UInt8(ascii: "$") ? "$" + key : key, try json(value, depth: depth + 1))
            }
            return .object(object)
        }
    }

    /// - Throws: ``CairnError/Code/malformed`` for an unknown or wrong tag, ``CairnError/Code/unsupported`` for one that a
    ///   later version may know.
    package static func value(_ json: JSONValue) throws(CairnError) -> Value {
        switch json {
        case .null: return .null
        case .bool(let value): return .bool(value)
        case .integer(let value): return .integer(value)
        case .unsigned(let value): return .unsigned(value)
        case .double(let value): return .double(value)
        case .string(let value): return .string(value)
        case .array(let elements):
            var values: [Value] = []
            for element in elements { values.append(try value(element)) }
            return .list(values)
        case .object(let object):
            if object.members.count == 1, let member = object.members.first, isTag(member.key) {
                return try tag(member.key, member.value)
            }
            var values: [String: Value] = [:]
            for member in object.members {
                guard !isTag(member.key) else {
                    throw CairnError(.malformed, "a tag stands among other keys", .init(found: member.key))
                }
                let key = member.key.utf8.first == UInt8(ascii: "$") ? String(member.key.dropFirst()) : member.key
                guard values.updateValue(try value(member.value), forKey: key) == nil else {
                    throw CairnError(.malformed, "a dictionary has a key twice", .init(found: key))
                }
            }
            return .dictionary(values)
        }
    }

    private static func isTag(_ key: String) -> Bool {
        key.utf8.first == UInt8(ascii: "$") && key.utf8.dropFirst().first != UInt8(ascii: "$")
    }

    private static func tag(_ key: String, _ json: JSONValue) throws(CairnError) -> Value {
        guard case .string(let text) = json else {
            throw CairnError(.malformed, "the value of a tag is a string", .init(expected: "a string", found: key))
        }
        switch key {
        case "$u64":
            if let value = UInt64(text), String(value) == text { return .unsigned(value) }
        case "$f64":
            // Compared with its own form, because Swift's parser also takes a sign.
            if let bits = UInt64(text, radix: 16), hexadecimal(bits) == text {
                return .double(Double(bitPattern: bits))
            }
        case "$bytes":
            return .bytes(try Base64.decode(text))
        default:
            throw CairnError(
                .unsupported, "a value has a type that this version does not know",
                .init(found: key, advice: "read it with a newer version"))
        }
        throw CairnError(.malformed, "a value does not fit its tag", .init(expected: key, found: text))
    }

    private static func tagged(_ tag: String, _ text: String) -> JSONValue {
        var object = JSONObject()
        _ = object.append(tag, .string(text))
        return .object(object)
    }

    private static func hexadecimal(_ bits: UInt64) -> String {
        let digits = String(bits, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
