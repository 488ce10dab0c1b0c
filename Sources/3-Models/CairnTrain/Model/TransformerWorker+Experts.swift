internal import CTrainKernels
internal import CairnTensor

extension TransformerWorker {
    /// Sends each token to its experts, and adds up what comes back.
    ///
    /// - Returns: ``PassResult/balanceSum`` of the layer.
    func expertsForward(
        _ layer: Transformer.Layer, _ experts: ExpertLayer, _ a: Activations, into next: UnsafeMutablePointer<Float>,
        sequences: Int, _ weights: ParameterPointers
    ) throws(Partners.Failure) -> Double {
        guard let e = a.experts, let scratch = expertScratch else { preconditionFailure("a layer without experts") }
        let width = network.configuration.width
        let rows = sequences * network.configuration.context
        let choice = experts.configuration
        layer.feedForwardNorm.forward(
            weights, a.middle, into: a.middleNormed, statistics: a.middleStatistics, rows: rows)
        experts.router.forward(weights, a.middleNormed, into: e.probabilities, stride: choice.count, rows: rows)
        cairn_route(
            rows, choice.count, choice.chosen, Float(choice.scale), e.probabilities, e.choices, e.shares)
        let counts = e.arrange(rows: rows)
        cairn_gather(rows * choice.chosen, width, e.tokens, 0, Int32(rows), a.middleNormed, scratch.assigned)
        try plan(e, counts)
        let received = e.receivedRows.reduce(0, +)
        let inputs = e.inputs.reserve(received * width)
        try dispatch(scratch.assigned, into: inputs, e)
        let inner = network.part.expertInner.count
        let gated = e.gated.reserve(network.configuration.feedForward == .swiglu ? received * inner : 0)
        let raised = e.raised.reserve(received * inner)
        let activated = e.activated.reserve(received * inner)
        let made = scratch.rows.reserve(received * width)
        for segment in e.segments {
            let expert = experts.experts[segment.expert]
            let start = segment.start
            expert.activate(
                weights, inputs + start * width, gated: gated + (expert.gate == nil ? 0 : start * inner),
                raised: raised + start * inner, into: activated + start * inner, rows: segment.count)
            // The bias is to be in the sum over parts once.
            expert.down.forward(
                weights, activated + start * inner, biased: partners.index == 0, into: made + start * width,
                stride: width, rows: segment.count)
        }
        try giveBack(made, into: e.outputs, e)
        let isFirst = partners.index == 0
        cairn_combine(rows, width, choice.chosen, e.places, e.shares, e.outputs, isFirst ? a.middle : nil, next)
        try partners.sum(next, count: rows * width)
        return balance(e, scratch, sequences: sequences) { _ in }
    }

    /// Adds to the gradients of router and experts, and to that of the residual stream.
    func expertsBackward(
        _ layer: Transformer.Layer, _ experts: ExpertLayer, _ a: Activations, sequences: Int,
        _ weights: ParameterPointers, _ gradients: GradientPointers, scale: Float
    ) throws(Partners.Failure) {
        guard let e = a.experts, let scratch = expertScratch else { preconditionFailure("a layer without experts") }
        let c = network.configuration
        let width = c.width
        let rows = sequences * c.context
        let choice = experts.configuration
        cairn_combine_backward(
            rows, width, choice.chosen, e.places, e.shares, e.outputs, stream, scratch.assigned,
            scratch.shareGradients)
        // Each partner has multiplied with its terms of the experts' outputs.
        try partners.sum(scratch.shareGradients, count: rows * choice.chosen)
        let received = e.receivedRows.reduce(0, +)
        let inner = network.part.expertInner.count
        let isGated = c.feedForward == .swiglu
        let dy = scratch.rows.reserve(received * width)
        try dispatch(scratch.assigned, into: dy, e)
        let dx = scratch.inputGradients.reserve(received * width)
        let wide = scratch.wide.reserve(received * inner)
        let gateGradients = scratch.gateGradients.reserve(isGated ? received * inner : 0)
        for segment in e.segments {
            let expert = experts.experts[segment.expert]
            let start = segment.start
            expert.backward(
                weights, gradients, x: e.inputs.start + start * width,
                gated: e.gated.start + (isGated ? start * inner : 0), raised: e.raised.start + start * inner,
                activated: e.activated.start + start * inner, dy: dy + start * width, dx: dx + start * width,
                wide: wide + start * inner, gateGradient: gateGradients + (isGated ? start * inner : 0),
                rows: segment.count)
        }
        try giveBack(dx, into: scratch.assigned, e)
        cairn_combine(rows, width, choice.chosen, e.places, nil, scratch.assigned, nil, narrow)

        let pressure = scale * Float(choice.balance) * Float(choice.count)
        _ = balance(e, scratch, sequences: sequences) { first in
            cairn_route_backward(
                c.context, choice.count, choice.chosen, Float(choice.scale), e.probabilities + first * choice.count,
                e.choices + first * choice.chosen, e.shares + first * choice.chosen,
                scratch.shareGradients + first * choice.chosen, pressure, scratch.load,
                scratch.scoreGradients + first * choice.count)
        }
        experts.router.backward(
            weights, gradients, x: a.middleNormed, dy: scratch.scoreGradients, stride: choice.count,
            // What all partners have alike is to be in the sum once.
            dx: partners.index == 0 ? narrow : nil, accumulate: true, rows: rows)
        try partners.sum(narrow, count: rows * width)
        layer.feedForwardNorm.backward(
            weights, gradients, x: a.middle, statistics: a.middleStatistics, dy: narrow, dx: stream, rows: rows)
    }

    /// The balance of each sequence by itself, so that it does not depend on what else is in a batch: the number of
    /// experts times the sum over them of the share of assignments and the mean probability (Fedus et al. 2022; by
    /// sequence: DeepSeek-AI 2024).
    ///
    /// - Parameter body: called with the first row of each sequence while its shares are in ``ExpertScratch/load``.
    private func balance(
        _ e: ExpertActivations, _ scratch: ExpertScratch, sequences: Int, _ body: (Int) -> Void
    ) -> Double {
        let choice = e.configuration
        let context = network.configuration.context
        var sum = 0.0
        for first in stride(from: 0, to: sequences * context, by: context) {
            sum +=
                cairn_balance(
                    context, choice.count, choice.chosen, e.probabilities + first * choice.count,
                    e.choices + first * choice.chosen, scratch.load) * Double(context)
            body(first)
        }
        return sum
    }

    /// Finds out which rows come from where, given how many assignments each expert has here.
    private func plan(_ e: ExpertActivations, _ counts: [Int]) throws(Partners.Failure) {
        let ranks = partners.expertRankCount
        let own = network.part.experts
        let owned = (0..<ranks).map { TransformerPart.balanced(counts.count, part: $0, of: ranks) }
        let all = try partners.gatherCounts(counts)
        e.sentRows = owned.map { counts[$0].reduce(0, +) }
        e.receivedRows = all.map { $0[own].reduce(0, +) }
        e.segments = []
        var start = 0
        for counts in all {
            for expert in own where counts[expert] > 0 {
                e.segments.append(.init(expert: expert - own.lowerBound, start: start, count: counts[expert]))
                start += counts[expert]
            }
        }
    }

    /// Moves rows from the ranks of the tokens to those of the experts.
    private func dispatch(
        _ rows: UnsafePointer<Float>, into received: UnsafeMutablePointer<Float>, _ e: ExpertActivations
    ) throws(Partners.Failure) {
        let width = network.configuration.width
        try partners.exchange(
            rows, counts: e.sentRows.map { $0 * width }, into: received,
            receivedCounts: e.receivedRows.map { $0 * width })
    }

    /// Moves rows back.
    private func giveBack(
        _ rows: UnsafePointer<Float>, into received: UnsafeMutablePointer<Float>, _ e: ExpertActivations
    ) throws(Partners.Failure) {
        let width = network.configuration.width
        try partners.exchange(
            rows, counts: e.receivedRows.map { $0 * width }, into: received,
            receivedCounts: e.sentRows.map { $0 * width })
    }
}

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
