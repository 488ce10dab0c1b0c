public import CairnBase
public import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A search for the numbers for which a function that can only be evaluated is least: candidates are asked for, and their
/// values told.
///
/// A strategy is a value and its whole state can be stored, so that a search continues after an interruption, bit by bit as
/// if there had been none.
public protocol SearchStrategy: Sendable {
    /// The candidates whose values are wanted; the same again until they are told.
    mutating func ask() -> [[Double]]

    /// Takes the values of the candidates, in their order. What is not a number counts as worse than any.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when there are not as many values as candidates.
    mutating func tell(_ values: [Double]) throws(CairnError)

    /// The best candidate so far; `nil` before the first values.
    var best: (point: [Double], value: Double)? { get }

    /// How many values were told.
    var evaluationCount: Int { get }

    /// The whole state.
    var value: Value { get }

    /// A search that was stored.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for what is not a state of the strategy.
    init(_ value: Value) throws(CairnError)
}

/// The random numbers of a search: SplitMix64, whose whole state is one number that a checkpoint can hold.
package struct SearchRandom: RandomNumberGenerator, Sendable, Hashable {
    private var generator: SplitMix64

    public init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    /// Where it is.
    public var state: UInt64 { generator.state }

    public mutating func next() -> UInt64 { generator.next() }

    /// The next number of [0, 1).
    mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// The next number of the normal distribution. (Box and Muller 1958)
    mutating func normal() -> Double {
        // One minus keeps the logarithm away from zero.
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }
}

/// Reads the state of a search from a value, with errors that say what is missing.
struct SearchFields {
    private let fields: [String: Value]

    init(_ value: Value, kind: String) throws(CairnError) {
        guard case .dictionary(let fields) = value, fields["kind"] == .string(kind) else {
            throw CairnError(.malformed, "this is not a state of such a search", .init(expected: kind))
        }
        self.fields = fields
    }

    subscript(name: String) -> Value {
        get throws(CairnError) {
            guard let value = fields[name] else { throw Self.error(name) }
            return value
        }
    }

    func double(_ name: String) throws(CairnError) -> Double {
        guard case .double(let number) = try self[name] else { throw Self.error(name) }
        return number
    }

    func count(_ name: String, atLeast least: Int = 0) throws(CairnError) -> Int {
        guard case .integer(let number) = try self[name], number >= Int64(least), number < 1 << 40 else {
            throw Self.error(name)
        }
        return Int(number)
    }

    func unsigned(_ name: String) throws(CairnError) -> UInt64 {
        guard case .unsigned(let number) = try self[name] else { throw Self.error(name) }
        return number
    }

    func doubles(_ name: String) throws(CairnError) -> [Double] { try Self.doubles(try self[name], name) }

    func list(_ name: String) throws(CairnError) -> [Value] {
        guard case .list(let list) = try self[name] else { throw Self.error(name) }
        return list
    }

    static func doubles(_ value: Value, _ name: String) throws(CairnError) -> [Double] {
        guard case .list(let list) = value else { throw error(name) }
        var numbers: [Double] = []
        for value in list {
            guard case .double(let number) = value else { throw error(name) }
            numbers.append(number)
        }
        return numbers
    }

    static func error(_ name: String) -> CairnError {
        CairnError(.malformed, "the state of a search is not whole", .init(found: name))
    }
}

extension Value {
    /// A list of doubles.
    init(_ numbers: [Double]) { self = .list(numbers.map { .double($0) }) }
}
