package import CairnTensor

/// Which part of the data.
public enum Split: Sendable, Hashable {
    /// What the model learns from.
    case training
    /// What it never sees but in evaluation.
    case validation
}

/// Numbered examples.
package protocol ExampleSource: Sendable {
    func count(_ split: Split) -> Int
    /// Appends the example to the batch.
    func append(_ index: Int, of split: Split, to batch: inout Batch)
    /// What tells this data from other data, for the stored state.
    var identity: Value { get }
}
