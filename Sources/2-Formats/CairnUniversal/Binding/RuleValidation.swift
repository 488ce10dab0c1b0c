import CairnBase

/// What can be said of one rule without a checkpoint.
struct RuleValidation {
    private let specification: UniversalSpec
    private let compiled: CompiledRule
    private let axes: Set<String>
    private let known: Set<String>

    private var rule: Rule { compiled.rule }

    init(_ specification: UniversalSpec, _ compiled: CompiledRule) {
        self.specification = specification
        self.compiled = compiled
        axes = Set(specification.axes.map(\.name))
        known = axes.union(specification.parameters.map(\.name))
    }

    func check() throws(CairnError) {
        try checkPatterns()
        try checkPlacement()
        try checkTransforms()
        for expression in rule.shape ?? [] { try check(expression) }
        if case .only(let names) = rule.moments {
            for name in names where !specification.moments.contains(where: { $0.name == name }) {
                throw error("it names an unknown optimizer moment", found: name)
            }
        }
    }

    private func checkPatterns() throws(CairnError) {
        guard let first = compiled.from.first else { throw error("it has no foreign name") }
        let captures = Set(first.captureNames)
        for template in compiled.from {
            guard Set(template.captureNames) == captures else {
                throw error("its foreign names have different captures", found: template.text)
            }
            try check(template.expressionNames, isIn: known, template.text, "only parameters and axes")
        }
        for capture in captures where known.contains(capture) || capture == "fqn" {
            throw error("a capture is called like an axis, a parameter or {fqn}", found: capture)
        }
        for template in compiled.from + compiled.to + compiled.except {
            for case .capture(_, .range(let lower, let upper)) in template.pieces {
                try check(lower.names.union(upper.names), isIn: known, template.text, "only parameters and axes")
                try check(lower.sizes.union(upper.sizes), isIn: axes, template.text, "sizes of mesh axes")
            }
            for case .expression(let tree, _) in template.pieces {
                try check(tree.sizes, isIn: axes, template.text, "sizes of mesh axes")
            }
        }
        if rule.outcome == .drop {
            guard rule.to.isEmpty else { throw error("it drops its tensors and has a logical name all the same") }
            return
        }
        guard let target = compiled.to.first else { throw error("it has no logical name") }
        let slot = compiled.unstackCapture
        if let slot, captures.contains(slot) {
            throw error("the slot of unstack or copy is a capture of the foreign name", found: slot)
        }
        var used: Set<String> = []
        for template in compiled.to + (compiled.tieTarget.map { [$0] } ?? []) {
            for name in template.captureNames where name != slot && !captures.contains(name) {
                throw error(
                    "a capture of the logical name is not in the foreign one", found: "{\(name)} in \(template.text)")
            }
            try check(
                template.expressionNames, isIn: known.union(captures), template.text, "captures, parameters, axes")
            used.formUnion(template.captureNames)
            used.formUnion(template.expressionNames)
            guard Set(template.fieldTexts) == Set(target.fieldTexts) else {
                throw error("its logical names have different fields", found: template.text)
            }
            if let slot, !template.captureNames.contains(slot) {
                throw error("a logical name lacks the slot of unstack or copy", found: template.text)
            }
        }
        used.formUnion(compiled.stackSlot?.names ?? [])
        if let lost = captures.subtracting(used).sorted().first {
            throw error(
                "a capture of the foreign name is nowhere in the logical one, so that several tensors would become one",
                found: "{\(lost)} in \(first.text)")
        }
    }

    private func checkPlacement() throws(CairnError) {
        try SpecificationValidation.checkDistinct(rule.placement.map(\.axis), "step for an axis")
        for step in rule.placement {
            try SpecificationValidation.check(axis: step.axis, axes)
            for expression in step.placement.expressions { try check(expression) }
        }
    }

    private func checkTransforms() throws(CairnError) {
        var count = compiled.from.count
        var stacks = 0, unstacks = 0
        for transform in compiled.transforms {
            switch transform {
            case .split(let parts):
                guard count == 1 else { throw error("it splits \(count) tensors at once") }
                count = parts.sizes?.count ?? compiled.to.count
                for expression in (parts.sizes ?? []) + [parts.groups] { try check(expression) }
            case .fuse(let parts):
                if let sizes = parts.sizes, sizes.count != count {
                    throw error("it fuses \(count) tensors and gives \(sizes.count) sizes")
                }
                count = 1
                for expression in (parts.sizes ?? []) + [parts.groups] { try check(expression) }
            case .stack(_, let slot):
                stacks += 1
                let parsed = try ArithmeticParser.parse(slot.text)
                try check(
                    parsed.names, isIn: known.union(compiled.captureNames), slot.text, "captures, parameters, axes")
            case .unstack(_, let slot):
                unstacks += 1
                guard IdentifierText.isName(slot), !known.contains(slot) else {
                    throw error("the slot of unstack has no proper name", found: slot)
                }
            case .copy(let copies):
                unstacks += 1
                guard IdentifierText.isName(copies.slot), !known.contains(copies.slot) else {
                    throw error("the slot of copy has no proper name", found: copies.slot)
                }
                for expression in [copies.count, copies.parts] { try check(expression) }
            case .permute(let order):
                guard order.sorted() == Array(order.indices) else {
                    throw error("its permutation does not name each dimension once", found: "\(order)")
                }
            case .cast: break
            case .strip(let padding), .pad(let padding):
                try check(padding.extent)
                if let multiple = padding.multiple { try check(multiple) }
            }
        }
        guard stacks <= 1, unstacks <= 1 else { throw error("it stacks, or unstacks or copies, twice") }
        guard rule.outcome == .drop || count == compiled.to.count else {
            throw error(
                "\(compiled.from.count) tensors become \(count), and there are \(compiled.to.count) logical names",
                advice: "add a split or a fuse, or correct the names")
        }
        if case .tie = rule.outcome, count != 1 || compiled.hasCopies {
            throw error("only one tensor at a time can be tied")
        }
    }

    private func check(_ expression: IntegerExpression) throws(CairnError) {
        let parsed = try ArithmeticParser.parse(expression.text)
        try check(parsed.names, isIn: known, expression.text, "parameters and axes")
        try check(parsed.sizes, isIn: axes, expression.text, "sizes of mesh axes")
    }

    private func check(
        _ names: Set<String>, isIn allowed: Set<String>, _ text: String, _ expected: String
    ) throws(CairnError) {
        guard let unknown = names.subtracting(allowed).sorted().first else { return }
        throw CairnError(
            .invalidArgument, "nothing is called \"\(unknown)\" here",
            .init(expected: expected, found: text.debugDescription))
    }

    private func error(_ message: String, found: String? = nil, advice: String? = nil) -> CairnError {
        CairnError(.invalidArgument, message, .init(found: found, advice: advice))
    }
}

extension PlacementRule {
    /// Every number of the placement.
    var expressions: [IntegerExpression] {
        switch self {
        case .replicate, .partial, .flatten(.perTensor), .flatten(.buffer): []
        case .present(let coordinates): coordinates
        case .flatten(.equal(let start, let size)): [start, size]
        case .flatten(.cuts(let start, let cuts)): [start] + cuts
        case .shard(_, let division, let unit, let sections, let repeats):
            [unit, repeats] + division.expressions + sections.expressions
        }
    }
}

extension PlacementRule.Division {
    fileprivate var expressions: [IntegerExpression] { if case .sizes(let sizes) = self { sizes } else { [] } }
}

extension PlacementRule.Sections {
    fileprivate var expressions: [IntegerExpression] {
        switch self {
        case .whole: []
        case .equal(let count): [count]
        case .sizes(let sizes): sizes
        }
    }
}
