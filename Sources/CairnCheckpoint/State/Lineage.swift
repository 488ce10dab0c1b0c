public import CairnTensor

/// Where a checkpoint comes from.
public struct Lineage: Sendable, Hashable {
    /// A checkpoint that this one was made from.
    public struct Parent: Sendable, Hashable {
        /// The parent's step, where it has one.
        public var step: Int?
        /// The parent's save id, where it has one.
        public var saveID: SaveID?
        /// Where it was read from, as the user named it.
        public var source: String?
        /// Its weight in a merge.
        public var coefficient: Double?

        public init(step: Int? = nil, saveID: SaveID? = nil, source: String? = nil, coefficient: Double? = nil) {
            self.step = step
            self.saveID = saveID
            self.source = source
            self.coefficient = coefficient
        }
    }

    /// How it was made: `training`, `conversion`, `average`, …
    public var operation: String
    /// What it was made from; the state that training resumed from, for a first checkpoint after a resume.
    public var parents: [Parent]
    /// Whatever else it takes to do the same again: a method, a seed, a recipe.
    public var details: [String: Value]

    public init(operation: String, parents: [Parent] = [], details: [String: Value] = [:]) {
        self.operation = operation
        self.parents = parents
        self.details = details
    }
}
