public import CairnBase
import CairnLayout
import CairnTensor

extension CompiledRule {
    /// Why what the rule does cannot be undone; empty if it can.
    var lossReasons: [String] {
        var reasons: [String] = []
        if rule.outcome == .drop { reasons.append("it drops its tensors") }
        for step in placement {
            if case .partial(let reduction) = step.placement {
                reasons.append("the \(reduction.rawValue) over \"\(step.axis)\" has lost its partial values")
            }
        }
        for transform in transforms {
            switch transform {
            case .cast(let from, let to):
                if from.map({ ScalarRange.holds($0, in: to) }) != true {
                    reasons.append("the cast from \(from.map(\.description) ?? "any type") to \(to) may lose bits")
                }
            case .strip(let padding) where padding.multiple == nil:
                reasons.append("what is padded is not said: give strip a multiple")
            case .copy: reasons.append("what it copies may differ later")
            default: break
            }
        }
        for template in from {
            for case .capture(let name, .segment) in template.pieces where isShifted(name) {
                reasons.append(
                    "the capture {\(name)} is shifted by a coordinate and has no range, such as {\(name):0..<4}")
            }
        }
        return reasons
    }

    /// Whether a capture is added to a coordinate in a logical name.
    private func isShifted(_ capture: String) -> Bool {
        guard !namingAxes.isEmpty else { return false }
        if let stackSlot, stackSlot.names.contains(capture) { return true }
        return to.contains { $0.expressionNames.contains(capture) }
    }
}

extension UniversalSpec {
    /// What of the specification works in one direction only, from shards to whole: a sentence for each rule.
    ///
    /// Rules for gathering only are among them. They do not keep a checkpoint from being sharded; it gets the names of
    /// other rules.
    ///
    /// - Throws: As ``validate()``.
    public func oneWayRules() throws(CairnError) -> [String] {
        let compiled = try CompiledSpecification(self)
        return compiled.rules.filter { $0.moment == nil }.flatMap { rule in
            let spelling = rule.rule.isForGatheringOnly ? ["it is unite-only: another rule writes its names"] : []
            return (spelling + rule.lossReasons).map { "\(rule.label): \($0)" }
        }
    }
}

/// Which element types hold every value of which others.
enum ScalarRange {
    static func holds(_ type: ScalarType, in other: ScalarType) -> Bool {
        if type == other { return true }
        switch (type, other) {
        case (.bf16, .f32), (.bf16, .f64), (.f16, .f32), (.f16, .f64), (.f32, .f64): return true
        case (.f8e4m3, .f16), (.f8e5m2, .f16), (.f8e4m3, .bf16), (.f8e5m2, .bf16): return true
        case (.f8e4m3, .f32), (.f8e5m2, .f32), (.f8e4m3fnuz, .f32), (.f8e5m2fnuz, .f32), (.f8e8m0, .f32): return true
        case (.u8, .u16), (.u8, .u32), (.u8, .u64), (.u16, .u32), (.u16, .u64), (.u32, .u64): return true
        case (.i8, .i16), (.i8, .i32), (.i8, .i64), (.i16, .i32), (.i16, .i64), (.i32, .i64): return true
        case (.u8, .i16), (.u8, .i32), (.u8, .i64), (.u16, .i32), (.u16, .i64), (.u32, .i64): return true
        default: return false
        }
    }
}
