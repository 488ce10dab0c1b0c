public import CairnCheckpoint

/// A checkpoint that takes part in a merge: any reader, and what the result's lineage says of it.
public struct MergeInput: Sendable {
    /// The checkpoint.
    public var reader: any CheckpointReader
    /// What the lineage of the result says of it; the coefficient is filled in by the method.
    public var parent: Lineage.Parent

    /// - Parameter parent: What the lineage says. Without it: the reader's source and, of Cairn's own checkpoints, step and
    ///   save id.
    public init(_ reader: any CheckpointReader, parent: Lineage.Parent? = nil) {
        self.reader = reader
        self.parent = parent
            ?? Lineage.Parent(step: reader.identity?.step, saveID: reader.identity?.saveID, source: reader.source)
    }
}
