import CairnBase

/// An ``IntegerExpression`` as a tree.
indirect enum Arithmetic: Sendable, Hashable {
    case number(Int)
    /// A capture, a parameter, or the coordinate on an axis.
    case name(String)
    /// The size of an axis.
    case size(String)
    case sum(Arithmetic, Arithmetic)
    case difference(Arithmetic, Arithmetic)
    case product(Arithmetic, Arithmetic)
    case quotient(Arithmetic, Arithmetic)
    case roundUp(Arithmetic, Arithmetic)

    /// The names that stand for captures, parameters and coordinates.
    var names: Set<String> {
        switch self {
        case .number, .size: []
        case .name(let name): [name]
        case .sum(let left, let right), .difference(let left, let right), .product(let left, let right),
            .quotient(let left, let right), .roundUp(let left, let right):
            left.names.union(right.names)
        }
    }

    /// The axes whose sizes occur.
    var sizes: Set<String> {
        switch self {
        case .number, .name: []
        case .size(let axis): [axis]
        case .sum(let left, let right), .difference(let left, let right), .product(let left, let right),
            .quotient(let left, let right), .roundUp(let left, let right):
            left.sizes.union(right.sizes)
        }
    }
}

/// Reads an expression.
struct ArithmeticParser {
    private static let greatestDepth = 32

    private let text: String
    private var rest: ArraySlice<UInt8>
    private var depth = 0

    /// - Throws: ``CairnError/Code/invalidArgument`` for what is not an expression.
    static func parse(_ text: String) throws(CairnError) -> Arithmetic {
        var parser = ArithmeticParser(text)
        let result = try parser.sum()
        parser.skipSpaces()
        guard parser.rest.isEmpty else { throw parser.error("has something behind its end") }
        return result
    }

    private init(_ text: String) {
        self.text = text
        rest = Array(text.utf8)[...]
    }

    private mutating func sum() throws(CairnError) -> Arithmetic {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.greatestDepth else { throw error("is nested too deeply") }
        var result = try product()
        var length = 0
        while true {
            length += 1
            guard length < 64 else { throw error("is too long") }
            if take("+") {
                result = .sum(result, try product())
            } else if take("-") {
                result = .difference(result, try product())
            } else {
                return result
            }
        }
    }

    private mutating func product() throws(CairnError) -> Arithmetic {
        var result = try factor()
        var length = 0
        while true {
            length += 1
            guard length < 64 else { throw error("is too long") }
            if take("*") {
                result = .product(result, try factor())
            } else if take("/") {
                result = .quotient(result, try factor())
            } else {
                return result
            }
        }
    }

    private mutating func factor() throws(CairnError) -> Arithmetic {
        if take("(") {
            let result = try sum()
            guard take(")") else { throw error("has a parenthesis that does not end") }
            return result
        }
        skipSpaces()
        guard let first = rest.first else { throw error("ends too early") }
        if (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) {
            let digits = takeWhile { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard let number = Int(digits) else { throw error("has a number that is too large") }
            return .number(number)
        }
        let name = takeWhile(IdentifierText.isIdentifier)
        guard IdentifierText.isName(name) else { throw error("has a character that means nothing here") }
        if name == "roundup", take("(") {
            let value = try sum()
            guard take(",") else { throw error("gives roundup one argument") }
            let multiple = try sum()
            guard take(")") else { throw error("has a parenthesis that does not end") }
            return .roundUp(value, multiple)
        }
        if rest.first == UInt8(ascii: ".") {
            rest.removeFirst()
            guard takeWhile(IdentifierText.isIdentifier) == "size" else { throw error("has a \".\" without \"size\"") }
            return .size(name)
        }
        return .name(name)
    }

    private mutating func skipSpaces() {
        while rest.first == UInt8(ascii: " ") { rest.removeFirst() }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpaces()
        guard let first = rest.first, UInt32(first) == character.value else { return false }
        rest.removeFirst()
        return true
    }

    private mutating func takeWhile(_ test: (UInt8) -> Bool) -> String {
        let taken = rest.prefix(while: test)
        rest = rest.dropFirst(taken.count)
        return String(decoding: taken, as: UTF8.self)
    }

    private func error(_ flaw: String) -> CairnError {
        CairnError(
            .invalidArgument, "an expression \(flaw)",
            .init(found: text.debugDescription, advice: "write numbers, names, axis.size, + - * / ( ) roundup(x, m)"))
    }
}

/// What a name in an expression is made of.
enum IdentifierText {
    static func isIdentifier(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            return false
        }
        return text.utf8.allSatisfy(isIdentifier)
    }
}

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
