internal import CairnBase
internal import CairnTensor

/// An exponential moving average of the weights, kept in 32-bit floats beside them: a ← d · a + (1 − d) · w after each
/// step, of the exact weights where the model has rounded ones.
///
/// It is part of the state, with its function, its constants and how many steps it has seen, so that a resumed run goes
/// on with the same average.
public struct WeightAverage: Sendable, Hashable {
    /// How much of the average is kept in a step.
    public var decay: Double
    /// Whether the first steps keep less, (1 + n) / (10 + n) after n of them, so that the start is soon forgotten.
    public var warmsUp: Bool

    public init(decay: Double = 0.999, warmsUp: Bool = true) {
        self.decay = decay
        self.warmsUp = warmsUp
    }

    /// How much of the average the next step keeps, after `count` of them; the first one keeps nothing.
    func decay(after count: Int) -> Double {
        if count == 0 { return 0 }
        return warmsUp ? min(decay, (1 + Double(count)) / (10 + Double(count))) : decay
    }

    func validate() throws(CairnError) {
        guard decay >= 0, decay < 1 else {
            throw CairnError(
                .invalidArgument, "the decay of an average is out of range",
                .init(expected: "0 or more, less than 1", found: "\(decay)"))
        }
    }

    func value(count: Int) -> Value {
        .dictionary([
            "kind": "exponential", "decay": .double(decay), "warms_up": .bool(warmsUp), "count": .integer(Int64(count)),
        ])
    }
}
