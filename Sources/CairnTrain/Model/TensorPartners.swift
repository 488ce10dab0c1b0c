/// The ranks that hold parts of the same matrices, as one of them sees the others in a pass.
///
/// What is computed of parts of a matrix is a term of a sum; these calls join the terms. A single rank has no partners:
/// ``NoPartners``, at no cost.
protocol TensorPartners: Sendable {
    /// What a call may throw; `Never` where nothing can fail.
    associatedtype Failure: Error
    /// How many ranks there are, this one included.
    var count: Int { get }
    /// Which one this is.
    var index: Int { get }
    /// Replaces the values by the sums over the ranks; all get the same bits.
    func sum(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)
    /// Fills `values`, [ranks, count], with what every rank has in its own row.
    func gather(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)
}

/// A rank that holds whole matrices.
struct NoPartners: TensorPartners {
    var count: Int { 1 }
    var index: Int { 0 }

    @inline(__always) func sum(_ values: UnsafeMutablePointer<Float>, count: Int) {}
    @inline(__always) func gather(_ values: UnsafeMutablePointer<Float>, count: Int) {}
}
