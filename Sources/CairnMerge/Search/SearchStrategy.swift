public import CairnBase
public import CairnTensor

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
