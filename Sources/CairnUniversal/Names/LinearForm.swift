import CairnBase

/// What an expression comes to where captures are still open: a constant and a multiple of each.
struct LinearForm: Hashable {
    var constant: Int
    /// Never zero.
    var coefficients: [String: Int] = [:]

    /// Evaluates an expression.
    ///
    /// - Parameter captures: The names that stay open.
    /// - Throws: ``CairnError/Code/invalidArgument`` for a name that nothing defines, a division that does not come out
    ///   even, an overflow, or a capture that is not merely scaled and added.
    init(_ expression: Arithmetic, captures: Set<String>, in context: EvaluationContext) throws(CairnError) {
        func evaluate(_ part: Arithmetic) throws(CairnError) -> LinearForm {
            try LinearForm(part, captures: captures, in: context)
        }
        switch expression {
        case .number(let number): self.init(constant: number)
        case .name(let name) where captures.contains(name): self.init(constant: 0, coefficients: [name: 1])
        case .name(let name): self.init(constant: try context.value(of: name))
        case .size(let axis): self.init(constant: try context.size(of: axis))
        case .sum(let left, let right):
            self = try evaluate(left).combined(with: try evaluate(right), sign: 1)
        case .difference(let left, let right):
            self = try evaluate(left).combined(with: try evaluate(right), sign: -1)
        case .product(let left, let right):
            let (first, second) = (try evaluate(left), try evaluate(right))
            if first.coefficients.isEmpty {
                self = try second.scaled(by: first.constant)
            } else if second.coefficients.isEmpty {
                self = try first.scaled(by: second.constant)
            } else {
                throw Self.error("two captures are multiplied")
            }
        case .quotient(let left, let right):
            let (first, second) = (try evaluate(left), try evaluate(right))
            guard first.coefficients.isEmpty, second.coefficients.isEmpty else {
                throw Self.error("a capture is divided")
            }
            guard second.constant > 0 else { throw Self.error("something is divided by \(second.constant)") }
            guard first.constant % second.constant == 0 else {
                throw Self.error("\(first.constant) is not divisible by \(second.constant)")
            }
            self.init(constant: first.constant / second.constant)
        case .roundUp(let value, let multiple):
            let (first, second) = (try evaluate(value), try evaluate(multiple))
            guard first.coefficients.isEmpty, second.coefficients.isEmpty, first.constant >= 0, second.constant > 0,
                let rounded = first.constant.roundedUp(toMultipleOf: second.constant)
            else { throw Self.error("roundup takes a number and a positive multiple") }
            self.init(constant: rounded)
        }
    }

    private init(constant: Int, coefficients: [String: Int] = [:]) {
        self.constant = constant
        self.coefficients = coefficients.filter { $0.value != 0 }
    }

    private func combined(with other: LinearForm, sign: Int) throws(CairnError) -> LinearForm {
        let scaled = try other.scaled(by: sign)
        var sums = coefficients
        for (name, value) in scaled.coefficients {
            guard let sum = (sums[name] ?? 0).adding(checked: value) else { throw Self.error("a number overflows") }
            sums[name] = sum
        }
        guard let sum = constant.adding(checked: scaled.constant) else { throw Self.error("a number overflows") }
        return LinearForm(constant: sum, coefficients: sums)
    }

    private func scaled(by factor: Int) throws(CairnError) -> LinearForm {
        var products: [String: Int] = [:]
        for (name, value) in coefficients {
            guard let product = value.multiplied(checked: factor) else { throw Self.error("a number overflows") }
            products[name] = product
        }
        guard let product = constant.multiplied(checked: factor) else { throw Self.error("a number overflows") }
        return LinearForm(constant: product, coefficients: products)
    }

    /// The value for given captures; `nil` on overflow or for a capture that is missing.
    func value(for captures: [String: Int]) -> Int? {
        var sum = constant
        for (name, coefficient) in coefficients {
            guard let capture = captures[name], let product = capture.multiplied(checked: coefficient),
                let next = sum.adding(checked: product)
            else { return nil }
            sum = next
        }
        return sum
    }

    private static func error(_ flaw: String) -> CairnError {
        CairnError(.invalidArgument, "an expression cannot be evaluated: \(flaw)")
    }
}
