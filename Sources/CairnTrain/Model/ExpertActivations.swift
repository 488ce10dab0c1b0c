internal import CTrainKernels
internal import CairnTensor

/// What the way back needs of one layer of experts; R rows of tokens, N = R · chosen assignments of a token to an
/// expert.
///
/// Assignments are ordered by expert, then by token; so those of a rank's experts lie side by side. A rank computes M
/// of them: those for its experts, of all ranks that the experts are sharded over, rank after rank.
///
/// `@unchecked Sendable`: the worker that owns it runs one pass at a time.
final class ExpertActivations: @unchecked Sendable {
    /// Rows for one expert, side by side.
    struct Segment {
        /// Which of this rank's experts.
        var expert: Int
        var start: Int
        var count: Int
    }

    let configuration: ExpertConfiguration
    let probabilities: UnsafeMutablePointer<Float>  // [R, experts]
    let choices: UnsafeMutablePointer<Int32>  // [R, chosen]: experts
    let shares: UnsafeMutablePointer<Float>  // [R, chosen]: the weights in the sum
    let places: UnsafeMutablePointer<Int32>  // [R, chosen]: where the assignment stands
    let tokens: UnsafeMutablePointer<Int32>  // [N]: whose assignment it is
    let outputs: UnsafeMutablePointer<Float>  // [N, width]
    let inputs: GrowingFloats  // [M, width]
    let gated: GrowingFloats  // [M, inner], SwiGLU only
    let raised: GrowingFloats  // [M, inner]
    let activated: GrowingFloats  // [M, inner]
    /// The M rows.
    var segments: [Segment] = []
    /// How many rows go to each of the ranks that the experts are sharded over, and how many come from each.
    var sentRows: [Int] = []
    var receivedRows: [Int] = []

    init(
        _ arena: Arena, _ experts: ExpertConfiguration, rows: Int, width: Int, inner: Int, isGated: Bool,
        pool: BufferPool
    ) {
        let assignments = rows * experts.chosen
        configuration = experts
        probabilities = arena.floats(rows * experts.count)
        choices = arena.integers(assignments)
        shares = arena.floats(assignments)
        places = arena.integers(assignments)
        tokens = arena.integers(assignments)
        outputs = arena.floats(assignments * width)
        inputs = GrowingFloats(assignments * width, pool: pool)
        gated = GrowingFloats(isGated ? assignments * inner : 0, pool: pool)
        raised = GrowingFloats(assignments * inner, pool: pool)
        activated = GrowingFloats(assignments * inner, pool: pool)
    }

    /// Orders the assignments of `rows` tokens; returns how many each expert has.
    func arrange(rows: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: configuration.count)
        let assignments = rows * configuration.chosen
        for index in 0..<assignments { counts[Int(choices[index])] += 1 }
        var next = counts.indices.map { counts[..<$0].reduce(0, +) }
        for index in 0..<assignments {
            let expert = Int(choices[index])
            places[index] = Int32(next[expert])
            tokens[next[expert]] = Int32(index / configuration.chosen)
            next[expert] += 1
        }
        return counts
    }
}

/// Room for passes through layers of experts, for one layer at a time.
///
/// `@unchecked Sendable`: the worker that owns it runs one pass at a time.
final class ExpertScratch: @unchecked Sendable {
    let assigned: UnsafeMutablePointer<Float>  // [N, width]
    let shareGradients: UnsafeMutablePointer<Float>  // [R, chosen]
    let scoreGradients: UnsafeMutablePointer<Float>  // [R, experts]
    let load: UnsafeMutablePointer<Float>  // [experts]
    let rows: GrowingFloats  // [M, width]
    let inputGradients: GrowingFloats  // [M, width]
    let wide: GrowingFloats  // [M, inner]
    let gateGradients: GrowingFloats  // [M, inner], SwiGLU only

    init(
        _ arena: Arena, _ experts: ExpertConfiguration, rows: Int, width: Int, inner: Int, isGated: Bool,
        pool: BufferPool
    ) {
        let assignments = rows * experts.chosen
        assigned = arena.floats(assignments * width)
        shareGradients = arena.floats(assignments)
        scoreGradients = arena.floats(rows * experts.count)
        load = arena.floats(experts.count)
        self.rows = GrowingFloats(assignments * width, pool: pool)
        inputGradients = GrowingFloats(assignments * width, pool: pool)
        wide = GrowingFloats(assignments * inner, pool: pool)
        gateGradients = GrowingFloats(isGated ? assignments * inner : 0, pool: pool)
    }
}
