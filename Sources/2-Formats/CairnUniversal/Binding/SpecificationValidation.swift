package import CairnBase
import CairnLayout
import CairnTensor

extension UniversalSpec {
    /// Checks all that can be checked without a checkpoint: names, patterns, expressions, counts.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, naming the rule and what is wrong with it.
    package func validate() throws(CairnError) { _ = try CompiledSpecification(self) }
}

/// What can be said of a specification as a whole.
enum SpecificationValidation {
    /// Puts what failed before the message.
    static func inContext(_ location: String, _ body: () throws(CairnError) -> Void) throws(CairnError) {
        do throws(CairnError) {
            try body()
        } catch {
            throw CairnError(error.code, "\(location): \(error.message)", error.context, cause: error.cause)
        }
    }

    static func checkNames(_ specification: UniversalSpec) throws(CairnError) {
        try checkDistinct(specification.axes.map(\.name) + specification.parameters.map(\.name), "axis or parameter")
        for name in specification.axes.map(\.name) + specification.parameters.map(\.name) {
            guard IdentifierText.isName(name), name != "fqn", name != "roundup" else {
                throw CairnError(
                    .invalidArgument, "an axis or a parameter has no proper name",
                    .init(expected: "letters, digits and \"_\"", found: name.debugDescription))
            }
        }
        for axis in specification.axes {
            if let size = axis.size, size < 1 {
                throw CairnError(.invalidArgument, "the mesh axis \"\(axis.name)\" has size \(size)")
            }
        }
        try checkDistinct(specification.rules.map(\.name), "rule")
        try checkDistinct(specification.moments.map(\.name), "moment")
        try checkDistinct(specification.buffers.map(\.name), "flat buffer")
        let axes = Set(specification.axes.map(\.name))
        for moment in specification.moments {
            try inContext("moment \"\(moment.name)\"") { () throws(CairnError) in
                for text in [moment.from, moment.to] {
                    guard try NameTemplate(text).captureNames == ["fqn"] else {
                        throw CairnError(
                            .invalidArgument, "an optimizer moment's name has {fqn} as its only field",
                            .init(found: text.debugDescription))
                    }
                }
                for step in moment.placement { try check(axis: step.axis, axes) }
                try checkDistinct(moment.placement.map(\.axis), "step for axis")
            }
        }
        for buffer in specification.buffers {
            try inContext("flat buffer \"\(buffer.name)\"") { () throws(CairnError) in
                try check(axis: buffer.axis, axes)
                for presence in buffer.present {
                    try check(axis: presence.axis, axes)
                    if presence.axis == buffer.axis {
                        throw CairnError(.invalidArgument, "it is cut over the axis on which it is present in part")
                    }
                }
                try checkDistinct(buffer.members.map(\.name), "member")
            }
        }
    }

    static func check(axis: String, _ axes: Set<String>) throws(CairnError) {
        guard axes.contains(axis) else {
            throw CairnError(
                .invalidArgument, "the mesh has no axis \"\(axis)\"",
                .init(expected: axes.sorted().joined(separator: ", ")))
        }
    }

    static func checkDistinct(_ names: [String], _ what: String) throws(CairnError) {
        var seen: Set<ExactString> = []
        for name in names {
            guard !name.isEmpty else { throw CairnError(.invalidArgument, "a \(what) has an empty name") }
            guard seen.insert(ExactString(name)).inserted else {
                throw CairnError(
                    .invalidArgument, "there are two of the name \"\(name)\"", .init(expected: "one \(what)"))
            }
        }
    }
}

/// Something about a specification and a checkpoint that do not fit each other.
package struct RuleProblem: Sendable, CustomStringConvertible {
    /// The rule, if it is one rule's matter: `rule "qkv"`, with the moment in parentheses.
    package var rule: String?
    /// What is wrong, with the tensor and what to do.
    package var error: CairnError

    init(_ rule: String?, _ error: CairnError) {
        self.rule = rule
        var error = error
        if let rule, !error.message.hasPrefix(rule) {
            error = CairnError(error.code, "\(rule): \(error.message)", error.context, cause: error.cause)
        }
        self.error = error
    }

    package var description: String { error.description }
}

extension [RuleProblem] {
    /// The first of them, which says how many there are.
    func firstError() -> CairnError? {
        guard var error = first?.error else { return nil }
        if count > 1 {
            let note = "\(count - 1) more \(count == 2 ? "problem" : "problems"): `cairn rules check` lists them"
            error.context.advice = error.context.advice.map { $0 + "; " + note } ?? note
        }
        return error
    }
}

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
    package func oneWayRules() throws(CairnError) -> [String] {
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
