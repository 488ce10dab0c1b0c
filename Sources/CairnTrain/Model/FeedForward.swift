internal import CTrainKernels

/// The feed-forward part of a layer, or one of its experts: down(gelu(up(x))) or down(silu(gate(x)) · up(x)).
struct FeedForward: Sendable {
    let gate: Linear?
    let up: Linear
    let down: Linear

    /// From x, [rows, width], to what goes into ``down``, [rows, inner].
    ///
    /// - Parameters:
    ///   - gated: [rows, inner], with a gate only.
    ///   - raised: [rows, inner].
    func activate(
        _ weights: ParameterPointers, _ x: UnsafePointer<Float>, gated: UnsafeMutablePointer<Float>,
        raised: UnsafeMutablePointer<Float>, into activated: UnsafeMutablePointer<Float>, rows: Int
    ) {
        let inner = up.outputs
        up.forward(weights, x, into: raised, stride: inner, rows: rows)
        if let gate {
            gate.forward(weights, x, into: gated, stride: inner, rows: rows)
            cairn_swiglu(rows * inner, gated, raised, activated)
        } else {
            cairn_gelu(rows * inner, raised, activated)
        }
    }

    /// Adds to the gradients of the parameters, and computes that of x.
    ///
    /// - Parameters:
    ///   - wide: [rows, inner], for the gradient on the way.
    ///   - gateGradient: [rows, inner], with a gate only.
    func backward(
        _ weights: ParameterPointers, _ gradients: GradientPointers, x: UnsafePointer<Float>,
        gated: UnsafePointer<Float>, raised: UnsafePointer<Float>, activated: UnsafePointer<Float>,
        dy: UnsafePointer<Float>, dx: UnsafeMutablePointer<Float>, wide: UnsafeMutablePointer<Float>,
        gateGradient: UnsafeMutablePointer<Float>, rows: Int
    ) {
        let inner = up.outputs
        down.backward(weights, gradients, x: activated, dy: dy, stride: down.outputs, dx: wide, rows: rows)
        if let gate {
            // `wide` turns from the gradient of the product into that of `up`.
            cairn_swiglu_backward(rows * inner, gated, raised, wide, gateGradient, wide)
            gate.backward(weights, gradients, x: x, dy: gateGradient, stride: inner, dx: dx, rows: rows)
        } else {
            cairn_gelu_backward(rows * inner, raised, wide, wide)
        }
        up.backward(
            weights, gradients, x: x, dy: wide, stride: inner, dx: dx, accumulate: gate != nil, rows: rows)
    }
}

/// Experts that share the tokens of a layer.
struct ExpertLayer: Sendable {
    let configuration: ExpertConfiguration
    /// Scores each expert; no bias.
    let router: Linear
    /// Those that are computed here.
    let experts: [FeedForward]
}
