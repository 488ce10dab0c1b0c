/// A number as the sum of two doubles, which has twice their digits: for sums in which nearly everything cancels out.
/// (Dekker 1971)
struct DoubleDouble: Sendable, Equatable {
    /// The number rounded to a double.
    let high: Double
    /// What that rounding left out.
    let low: Double

    static let zero = DoubleDouble(0)

    init(_ value: Double) {
        high = value
        low = 0
    }

    /// The sum of two numbers of any size.
    init(_ one: Double, _ other: Double) {
        let sum = one + other, back = sum - one
        high = sum
        low = (one - (sum - back)) + (other - back)
    }

    static func + (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let sum = DoubleDouble(one.high, other.high)
        return DoubleDouble(sum.high, sum.low + one.low + other.low)
    }

    static func - (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let sum = DoubleDouble(one.high, -other.high)
        return DoubleDouble(sum.high, sum.low + one.low - other.low)
    }

    static func * (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let product = one.high * other.high
        let error = (-product).addingProduct(one.high, other.high)
        return DoubleDouble(product, error + (one.high * other.low + one.low * other.high))
    }

    static func / (one: DoubleDouble, other: DoubleDouble) -> DoubleDouble {
        let quotient = one.high / other.high
        let rest = one - other * DoubleDouble(quotient)
        return DoubleDouble(quotient, rest.high / other.high)
    }

    /// The root of a number that is above zero; zero for others.
    func squareRoot() -> DoubleDouble {
        guard high > 0 else { return .zero }
        let root = high.squareRoot()
        let rest = self - DoubleDouble(root) * DoubleDouble(root)
        return DoubleDouble(root, rest.high / (2 * root))
    }
}
