/// The ranks that compute parts of the same layers, as one of them sees the others in a pass.
///
/// What is computed of parts of a matrix is a term of a sum, and what an expert computes goes back to the rank whose
/// tokens they are; these calls join it. A single rank has no partners: ``NoPartners``, at no cost.
protocol LayerPartners: Sendable {
    /// What a call may throw; `Never` where nothing can fail.
    associatedtype Failure: Error
    /// How many ranks hold parts of the same matrices, this one included.
    var count: Int { get }
    /// Which one this is.
    var index: Int { get }
    /// Replaces the values by the sums over those ranks; all get the same bits.
    func sum(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)
    /// Fills `values`, [ranks, count], with what every one of those ranks has in its own row.
    func gather(_ values: UnsafeMutablePointer<Float>, count: Int) throws(Failure)

    /// Over how many ranks the experts of a layer are divided, this one included.
    var expertRankCount: Int { get }
    /// Which one this is.
    var expertRankIndex: Int { get }
    /// The numbers of each of those ranks, in their order.
    func gatherCounts(_ counts: [Int]) throws(Failure) -> [[Int]]
    /// Gives each of those ranks its part of `values` and takes what they have for this one; parts lie in the ranks'
    /// order.
    func exchange(
        _ values: UnsafePointer<Float>, counts: [Int], into received: UnsafeMutablePointer<Float>,
        receivedCounts: [Int]
    ) throws(Failure)
}

/// A rank that holds whole matrices and all experts.
struct NoPartners: LayerPartners {
    var count: Int { 1 }
    var index: Int { 0 }
    var expertRankCount: Int { 1 }
    var expertRankIndex: Int { 0 }

    @inline(__always) func sum(_ values: UnsafeMutablePointer<Float>, count: Int) {}
    @inline(__always) func gather(_ values: UnsafeMutablePointer<Float>, count: Int) {}
    func gatherCounts(_ counts: [Int]) -> [[Int]] { [counts] }

    func exchange(
        _ values: UnsafePointer<Float>, counts: [Int], into received: UnsafeMutablePointer<Float>,
        receivedCounts: [Int]
    ) {
        received.update(from: values, count: counts.reduce(0, +))
    }
}
