/// A JSON number: exact where it is written as an integer, a double where it has a fraction or an exponent.
package enum JSONNumber: Hashable, Sendable {
    /// An integer that fits.
    case integer(Int64)
    /// An integer greater than `Int64.max`.
    case unsigned(UInt64)
    /// A number written with `.`, `e` or `E`.
    case double(Double)
}
