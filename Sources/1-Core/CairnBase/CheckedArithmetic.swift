/// Arithmetic on sizes and offsets that come from files: `nil` instead of a trap.
extension FixedWidthInteger {
    /// The sum, or `nil` on overflow.
    package func adding(checked other: Self) -> Self? {
        let (value, overflow) = addingReportingOverflow(other)
        return overflow ? nil : value
    }

    /// The sum, or the greatest number on overflow: for totals that are only shown. Neither is negative.
    package func adding(clamped other: Self) -> Self { adding(checked: other) ?? .max }

    /// The difference, or `nil` on overflow.
    package func subtracting(checked other: Self) -> Self? {
        let (value, overflow) = subtractingReportingOverflow(other)
        return overflow ? nil : value
    }

    /// The product, or `nil` on overflow.
    package func multiplied(checked other: Self) -> Self? {
        let (value, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? nil : value
    }
}

extension Int {
    /// The smallest multiple of `alignment` that is no smaller, or `nil` on overflow. `alignment` is positive.
    package func roundedUp(toMultipleOf alignment: Int) -> Int? {
        let remainder = self % alignment
        return remainder == 0 ? self : adding(checked: alignment - remainder)
    }

    /// Quotient rounded up. Both are non-negative, `divisor` is positive.
    package func dividedRoundingUp(by divisor: Int) -> Int {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder == 0 ? quotient : quotient + 1
    }
}
