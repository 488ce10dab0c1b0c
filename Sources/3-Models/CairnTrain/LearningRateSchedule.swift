package import CairnBase
package import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The learning rate of each step, as data.
public struct LearningRateSchedule: Sendable, Hashable {
    /// What follows the warm-up.
    public enum Shape: Sendable, Hashable {
        /// The peak for ever.
        case constant
        /// Half a cosine from the peak at the end of the warm-up to the floor at step `steps` (Loshchilov, Hutter 2017).
        case cosine(steps: Int)
        /// Warm-up, stable, decay (Hu et al. 2024): the peak until step `stableUntil`, then down to the floor within
        /// `decaySteps`.
        case warmupStableDecay(stableUntil: Int, decaySteps: Int, decay: Decay)
    }

    /// How a decay phase falls.
    public enum Decay: String, Sendable, Hashable, CaseIterable {
        /// In a straight line.
        case linear
        /// So that the reciprocal rises in a straight line (Wen et al. 2024).
        case inverse
    }

    /// The largest rate.
    package var peak: Double
    /// Steps over which the rate rises in a straight line; the first step already has a part of it.
    package var warmupSteps: Int
    /// The smallest rate, as a fraction of the peak.
    package var floor: Double
    package var shape: Shape

    public init(peak: Double, warmupSteps: Int = 0, floor: Double = 0.1, shape: Shape = .constant) {
        self.peak = peak
        self.warmupSteps = warmupSteps
        self.floor = floor
        self.shape = shape
    }

    /// The rate of step `step`, the first being 0.
    package func rate(step: Int) -> Double {
        if step < warmupSteps { return peak * Double(step + 1) / Double(warmupSteps) }
        switch shape {
        case .constant: return peak
        case .cosine(let steps):
            let done = Self.progress(step - warmupSteps, of: steps - warmupSteps)
            return peak * (floor + (1 - floor) * 0.5 * (1 + cos(Double.pi * done)))
        case .warmupStableDecay(let stableUntil, let decaySteps, let decay):
            let done = Self.progress(step - stableUntil, of: decaySteps)
            switch decay {
            case .linear: return peak * (1 - (1 - floor) * done)
            case .inverse: return floor > 0 ? peak / (1 + (1 / floor - 1) * done) : (done > 0 ? 0 : peak)
            }
        }
    }

    private static func progress(_ step: Int, of steps: Int) -> Double {
        steps > 0 ? min(1, max(0, Double(step) / Double(steps))) : (step >= 0 ? 1 : 0)
    }

    /// The schedule as a value to store.
    package var value: Value {
        var fields: [String: Value] = [
            "peak": .double(peak), "warmup_steps": .integer(Int64(warmupSteps)), "floor": .double(floor),
        ]
        switch shape {
        case .constant: fields["kind"] = "constant"
        case .cosine(let steps):
            fields["kind"] = "cosine"
            fields["steps"] = .integer(Int64(steps))
        case .warmupStableDecay(let stableUntil, let decaySteps, let decay):
            fields["kind"] = "warmup_stable_decay"
            fields["stable_until"] = .integer(Int64(stableUntil))
            fields["decay_steps"] = .integer(Int64(decaySteps))
            fields["decay"] = .string(decay.rawValue)
        }
        return .dictionary(fields)
    }

    /// The schedule that a checkpoint's value `schedule` tells.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for what is not a schedule.
    package init(_ value: Value?) throws(CairnError) { try self.init(ValueFields("schedule", value)) }

    init(_ fields: ValueFields) throws(CairnError) {
        peak = try fields.double("peak")
        warmupSteps = try fields.integer("warmup_steps")
        floor = try fields.double("floor")
        let common: Set<String> = ["kind", "peak", "warmup_steps", "floor"]
        switch try fields.string("kind") {
        case "constant":
            shape = .constant
            try fields.allowOnly(common)
        case "cosine":
            shape = .cosine(steps: try fields.integer("steps"))
            try fields.allowOnly(common.union(["steps"]))
        case "warmup_stable_decay":
            guard let decay = Decay(rawValue: try fields.string("decay")) else {
                throw ValueFields.wrong("schedule.decay", "linear or inverse", try fields.field("decay"))
            }
            shape = .warmupStableDecay(
                stableUntil: try fields.integer("stable_until"), decaySteps: try fields.integer("decay_steps"),
                decay: decay)
            try fields.allowOnly(common.union(["stable_until", "decay_steps", "decay"]))
        case let kind:
            throw ValueFields.wrong(
                "schedule.kind", "constant, cosine or warmup_stable_decay", .string(kind))
        }
    }
}
