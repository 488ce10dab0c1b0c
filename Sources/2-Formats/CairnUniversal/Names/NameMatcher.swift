import CairnBase

/// A ``NameTemplate`` made ready for matching: its ranges and what of its arithmetic is constant are numbers.
struct NameMatcher {
    /// What an field may stand for.
    enum Field: Hashable {
        case segment
        case many
        case number(Range<Int>)
        case choice([[UInt8]])
        /// A canonical number, read back through the form.
        case form(LinearForm)
    }

    private enum Element {
        case literal([UInt8])
        case field(Field)
    }

    private var elements: [Element] = []
    /// How each field is called: the capture's name, or the text of the expression.
    private(set) var fieldNames: [String] = []
    private(set) var fields: [Field] = []

    /// - Parameters:
    ///   - captures: The names that expressions may leave open.
    ///   - context: What the other names stand for.
    init(_ template: NameTemplate, captures: Set<String>, in context: EvaluationContext) throws(CairnError) {
        for piece in template.pieces {
            switch piece {
            case .literal(let text): append(literal: text)
            case .capture(let name, let bound): append(try Self.field(bound, in: context), name)
            case .expression(let tree, let text):
                let form: LinearForm
                do throws(CairnError) {
                    form = try LinearForm(tree, captures: captures, in: context)
                } catch {
                    throw error.adding(.init(found: template.text.debugDescription))
                }
                if form.coefficients.isEmpty {
                    append(literal: "\(form.constant)")
                } else {
                    append(.form(form), text)
                }
            }
        }
    }

    private mutating func append(literal: String) {
        if case .literal(let before)? = elements.last {
            elements[elements.count - 1] = .literal(before + Array(literal.utf8))
        } else {
            elements.append(.literal(Array(literal.utf8)))
        }
    }

    private mutating func append(_ field: Field, _ name: String) {
        elements.append(.field(field))
        fields.append(field)
        fieldNames.append(name)
    }

    static func field(_ bound: NameTemplate.Bound, in context: EvaluationContext) throws(CairnError) -> Field {
        switch bound {
        case .segment: return .segment
        case .many: return .many
        case .choice(let texts): return .choice(texts.map { Array($0.utf8) })
        case .range(let lower, let upper):
            let first = try LinearForm(lower, captures: [], in: context).constant
            let end = try LinearForm(upper, captures: [], in: context).constant
            guard first >= 0, first <= end else {
                throw CairnError(
                    .invalidArgument, "the range of a capture runs backwards", .init(found: "\(first)..<\(end)"))
            }
            return .number(first..<end)
        }
    }

    /// What each field stands for, or `nil` if the name does not fit. Earlier places take as little as they can.
    func match(_ name: String) -> [String]? {
        let bytes = Array(name.utf8)
        if case .literal(let start)? = elements.first, !bytes.starts(with: start) { return nil }
        // Places that are known to fail: without it, patterns of many `*` would take forever.
        var failed = [Bool](repeating: false, count: (elements.count + 1) * (bytes.count + 1))
        var ends: [Int] = []
        guard search(bytes, element: 0, position: 0, &failed, &ends) else { return nil }
        var texts: [String] = []
        var position = 0
        for (index, element) in elements.enumerated() {
            if case .field = element { texts.append(String(decoding: bytes[position..<ends[index]], as: UTF8.self)) }
            position = ends[index]
        }
        return texts
    }

    private func search(
        _ name: [UInt8], element: Int, position: Int, _ failed: inout [Bool], _ ends: inout [Int]
    ) -> Bool {
        if element == elements.count { return position == name.count }
        let key = element * (name.count + 1) + position
        if failed[key] { return false }
        switch elements[element] {
        case .literal(let text):
            if name[position...].starts(with: text) {
                ends.append(position + text.count)
                if search(name, element: element + 1, position: position + text.count, &failed, &ends) { return true }
                ends.removeLast()
            }
        case .field(let field):
            var end = position
            while end < name.count {
                if field.stops(at: name[end]) { break }
                end += 1
                guard field.accepts(name[position..<end]) else { continue }
                ends.append(end)
                if search(name, element: element + 1, position: end, &failed, &ends) { return true }
                ends.removeLast()
            }
        }
        failed[key] = true
        return false
    }
}

extension NameMatcher.Field {
    /// Whether the place cannot reach over this byte.
    fileprivate func stops(at byte: UInt8) -> Bool {
        switch self {
        case .segment: byte == UInt8(ascii: ".")
        case .many, .choice: false
        case .number, .form: !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
    }

    fileprivate func accepts(_ text: ArraySlice<UInt8>) -> Bool {
        switch self {
        case .segment: return true
        // Whole segments: neither empty ones at the ends, nor a dot as the first or last character.
        case .many: return text.first != UInt8(ascii: ".") && text.last != UInt8(ascii: ".")
        case .choice(let texts): return texts.contains { $0.elementsEqual(text) }
        case .number(let range): return CanonicalNumber.parse(text).map(range.contains) ?? false
        case .form: return CanonicalNumber.parse(text) != nil
        }
    }
}

/// Numbers as they stand in names: digits, no sign, no leading zero.
enum CanonicalNumber {
    static func parse(_ text: some Collection<UInt8>) -> Int? {
        guard let first = text.first, text.count == 1 || first != UInt8(ascii: "0"),
            text.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int(String(decoding: text, as: UTF8.self))
    }

    static func parse(_ text: String) -> Int? { parse(text.utf8) }
}

/// Finds the captures of a rank's own name from the places of a logical one.
///
/// Where a place is arithmetic of several captures they are found as digits of mixed radix: the one with the largest
/// coefficient first. What comes out is put in again, so that a wrong guess is never taken.
struct CaptureSolver {
    /// What each capture may stand for on this rank.
    let bounds: [String: NameMatcher.Field]

    /// - Parameter places: What is known: a capture's value as it is, or a number that a form must come to.
    /// - Returns: All captures, or `nil` when this rank has no such name.
    func solve(texts: [String: String], numbers: [(form: LinearForm, value: Int)]) -> [String: String]? {
        var captures = texts
        var open = numbers
        var isMoving = true
        while isMoving, !open.isEmpty {
            isMoving = false
            var later: [(form: LinearForm, value: Int)] = []
            for field in open.sorted(by: { $0.form.coefficients.count < $1.form.coefficients.count }) {
                guard let found = solve(field.form, field.value, knowing: captures) else { return nil }
                for (name, number) in found {
                    captures[name] = "\(number)"
                    isMoving = true
                }
                guard field.form.coefficients.keys.allSatisfy({ captures[$0] != nil }) else {
                    later.append(field)
                    continue
                }
            }
            open = later
        }
        guard open.isEmpty else { return nil }
        for field in numbers {
            let values = captures.compactMapValues(CanonicalNumber.parse)
            guard field.form.value(for: values) == field.value else { return nil }
        }
        for (name, bound) in bounds {
            guard let text = captures[name], bound.holds(text) else { return nil }
        }
        return captures
    }

    private func solve(_ form: LinearForm, _ value: Int, knowing captures: [String: String]) -> [String: Int]? {
        guard var left = value.subtracting(checked: form.constant) else { return nil }
        var open: [(name: String, coefficient: Int)] = []
        for (name, coefficient) in form.coefficients.sorted(by: { $0.key < $1.key }) {
            if let text = captures[name] {
                guard let number = CanonicalNumber.parse(text), let product = number.multiplied(checked: coefficient),
                    let rest = left.subtracting(checked: product)
                else { return nil }
                left = rest
            } else {
                open.append((name, coefficient))
            }
        }
        var found: [String: Int] = [:]
        for (name, coefficient) in open.sorted(by: { $0.coefficient > $1.coefficient }) {
            guard coefficient > 0, left >= 0 else { return nil }
            var number = left / coefficient
            if case .number(let range)? = bounds[name] {
                guard !range.isEmpty else { return nil }
                number = min(max(number, range.lowerBound), range.upperBound - 1)
            }
            found[name] = number
            guard let product = number.multiplied(checked: coefficient), let rest = left.subtracting(checked: product)
            else { return nil }
            left = rest
        }
        return left == 0 ? found : nil
    }
}

extension NameMatcher.Field {
    /// Whether the place may stand for this text.
    func holds(_ text: String) -> Bool {
        switch self {
        case .segment: !text.isEmpty && !text.utf8.contains(UInt8(ascii: "."))
        case .many: !text.isEmpty
        case .choice(let texts): texts.contains { $0.elementsEqual(text.utf8) }
        case .number(let range): CanonicalNumber.parse(text).map(range.contains) ?? false
        case .form: CanonicalNumber.parse(text) != nil
        }
    }
}
