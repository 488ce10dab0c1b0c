import CairnBase
import CairnTensor

/// Parts of a pickle as text for people, much as Python's `repr` has it, cut where it gets long.
struct PythonText {
    private let graph: PickleGraph

    private static let greatestLength = 4096
    private static let greatestDepth = 16

    init(_ graph: PickleGraph) { self.graph = graph }

    func describe(_ reference: PickleGraph.Reference) -> String {
        var text = ""
        write(reference, depth: 0, to: &text)
        guard text.utf8.count > Self.greatestLength else { return text }
        return String(text.prefix(Self.greatestLength)) + "…"
    }

    /// The same, but text without quotes.
    func plain(_ reference: PickleGraph.Reference) -> String {
        graph.string(reference) ?? describe(reference)
    }

    /// A dictionary's key: of bytes what they are, since their number does not tell them apart. A tensor is one by itself,
    /// as an optimizer's states are by their parameters.
    func key(_ reference: PickleGraph.Reference) -> String {
        if let object = graph.object(reference), ["torch._utils", "torch._tensor"].contains(object.constructor.module) {
            return "tensor"
        }
        guard let bytes = PickledLeaf.bytes(reference, in: graph), bytes.count <= Self.greatestLength / 4 else {
            return describe(reference)
        }
        var text = "b'"
        for byte in bytes {
            let scalar = Unicode.Scalar(byte)
            let digits = String(byte, radix: 16)
            text +=
                scalar == "'" || scalar == "\\"
                ? "\\" + String(scalar) : (0x20..<0x7F).contains(byte) ? String(scalar) : (byte < 16 ? "\\x0" : "\\x") + digits
        }
        return text + "'"
    }

    /// The parts of a path.
    func path(_ parts: [PickleGraph.Reference]) -> String {
        var path = ""
        for part in parts {
            let text = plain(part)
            path += path.isEmpty || path.hasSuffix("/") ? text : "/" + text
        }
        return path
    }

    private func write(_ reference: PickleGraph.Reference, depth: Int, to text: inout String) {
        guard depth <= Self.greatestDepth, text.utf8.count <= Self.greatestLength else {
            text += "…"
            return
        }
        switch graph[reference] {
        case .none: text += "None"
        case .bool(let value): text += value ? "True" : "False"
        case .integer(let value): text += String(value)
        case .bigInteger(let bytes): text += PythonInteger.decimal(bytes)
        case .double(let value): text += value.description
        case .string(let value):
            let quote = value.contains("'") && !value.contains("\"") ? "\"" : "'"
            let shown = String(value.prefix(Self.greatestLength))
                .split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
            text +=
                quote
                + (quote == "'"
                    ? shown.split(separator: "'", omittingEmptySubsequences: false)
                        .joined(separator: "\\'") : shown) + quote
        case .bytes(let bytes): text += "<\(bytes.count) bytes>"
        case .list(let elements): write(elements, "[", "]", depth, to: &text)
        case .tuple(let elements): write(elements, "(", elements.count == 1 ? ",)" : ")", depth, to: &text)
        case .set(let elements): write(elements, "{", "}", depth, to: &text)
        case .dictionary(let items): writePairs(items, "{", ": ", "}", depth, isAttributes: false, to: &text)
        case .global(let index): text += "<\(graph.globals[Int(index)].path)>"
        case .object(let index): write(graph.objects[Int(index)], depth, to: &text)
        case .persistent: text += "<storage>"
        }
    }

    private func write(_ object: PickleGraph.Object, _ depth: Int, to text: inout String) {
        let instance = PickledInstance(object, in: graph)
        text += String(instance.constructor.name.split(separator: ".").last ?? "")
        text += "("
        var needsComma = false
        let parts = instance.arguments + instance.elements + (instance.state.map { [$0] } ?? [])
        for part in parts where text.utf8.count <= Self.greatestLength {
            if needsComma { text += ", " }
            write(part, depth: depth + 1, to: &text)
            needsComma = true
        }
        let items = instance.items + instance.attributes
        if needsComma, !items.isEmpty { text += ", " }
        writePairs(items, "", "=", ")", depth, isAttributes: true, to: &text)
    }

    private func write(
        _ elements: [PickleGraph.Reference], _ begin: String, _ end: String, _ depth: Int, to text: inout String
    ) {
        text += begin
        for (index, element) in elements.enumerated() {
            if index > 0 { text += ", " }
            write(element, depth: depth + 1, to: &text)
            if text.utf8.count > Self.greatestLength { break }
        }
        text += end
    }

    private func writePairs(
        _ items: [PickleGraph.Reference], _ begin: String, _ between: String, _ end: String, _ depth: Int,
        isAttributes: Bool, to text: inout String
    ) {
        text += begin
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            if index > 0 { text += ", " }
            if isAttributes, let name = graph.string(items[index]) {
                text += name
            } else {
                write(items[index], depth: depth + 1, to: &text)
            }
            text += between
            write(items[index + 1], depth: depth + 1, to: &text)
            if text.utf8.count > Self.greatestLength { break }
        }
        text += end
    }
}

/// Integers beyond 64 bits.
enum PythonInteger {
    /// The value of two's complement, little-endian bytes: a number if it fits, else its decimal digits.
    static func value(_ bytes: [UInt8]) -> Value {
        let digits = decimal(bytes)
        return UInt64(digits).map { .unsigned($0) } ?? .string(digits)
    }

    /// The decimal digits.
    static func decimal(_ bytes: [UInt8]) -> String {
        let isNegative = bytes.last.map { $0 >= 0x80 } ?? false
        var magnitude = bytes
        if isNegative {
            var carry = true
            for index in magnitude.indices {
                magnitude[index] = ~magnitude[index]
                if carry {
                    (magnitude[index], carry) = magnitude[index].addingReportingOverflow(1)
                }
            }
        }
        var digits: [String] = []
        while magnitude.contains(where: { $0 != 0 }) {
            var rest = 0
            for index in magnitude.indices.reversed() {
                let value = rest << 8 | Int(magnitude[index])
                magnitude[index] = UInt8(value / 10_000)
                rest = value % 10_000
            }
            let text = String(rest)
            digits.append(String(repeating: "0", count: 4 - text.utf8.count) + text)
        }
        let text = digits.reversed().joined().drop { $0 == "0" }
        return (isNegative ? "-" : "") + (text.isEmpty ? "0" : String(text))
    }

    /// Two's complement, little-endian, of decimal digits with an optional minus; `nil` for something else.
    static func bytes(_ digits: String) -> [UInt8]? {
        let isNegative = digits.utf8.first == UInt8(ascii: "-")
        let magnitude = digits.utf8.dropFirst(isNegative ? 1 : 0)
        guard !magnitude.isEmpty, magnitude.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        var bytes: [UInt8] = []
        for digit in magnitude {
            var carry = Int(digit - 0x30)
            for index in bytes.indices {
                carry += Int(bytes[index]) * 10
                bytes[index] = UInt8(carry & 0xFF)
                carry >>= 8
            }
            if carry > 0 { bytes.append(UInt8(carry)) }
        }
        // Room for the sign.
        bytes.append(0)
        guard isNegative else { return bytes }
        var carry = true
        for index in bytes.indices {
            bytes[index] = ~bytes[index]
            if carry { (bytes[index], carry) = bytes[index].addingReportingOverflow(1) }
        }
        return bytes
    }
}
