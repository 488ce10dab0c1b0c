public import CairnTensor

/// Something that is not carried over as it was: what a command says on standard error, and what `--strict` makes an error.
public struct LossNote: Sendable, Hashable {
    /// What kind of loss it is.
    public enum Kind: Sendable, Hashable {
        /// Finite numbers became infinite or NaN, or the largest number of a type.
        case overflow(count: Int, of: Int, greatest: Double, to: ScalarType)
        /// Numbers changed by more than a float's rounding: integers that were cut, fractions, signs.
        case change(count: Int, of: Int, from: ScalarType, to: ScalarType)
    }

    /// The tensor, or the path of a value.
    public var name: String
    /// What became of it.
    public var kind: Kind

    public init(name: String, kind: Kind) {
        self.name = name
        self.kind = kind
    }
}

extension LossNote: CustomStringConvertible {
    /// One sentence, such as `"w": 3 of 8 numbers are too large for F16 and became infinite or NaN; the largest is 70000.0`.
    public var description: String {
        switch kind {
        case .overflow(let count, let total, let greatest, let type):
            "\"\(name)\": \(count) of \(total) numbers are too large for \(type) and became infinite, NaN or its largest; "
                + "the largest is \(greatest)"
        case .change(let count, let total, let from, let type):
            "\"\(name)\": \(count) of \(total) numbers of \(from) are none of \(type) and were changed"
        }
    }
}
