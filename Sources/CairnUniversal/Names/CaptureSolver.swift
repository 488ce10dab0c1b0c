import CairnBase

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
