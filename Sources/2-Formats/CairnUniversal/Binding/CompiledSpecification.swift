import CairnBase

/// A specification with all names and expressions read.
struct CompiledSpecification: Sendable {
    let specification: UniversalSpec
    /// First the rules themselves, in order, then what they say of moments.
    let rules: [CompiledRule]
    let axes: Set<String>
    let parameters: [String: Int]
    /// What fits one of these is an optimizer moment, not a parameter.
    let momentNames: (foreign: [NameTemplate], logical: [NameTemplate])

    init(_ specification: UniversalSpec) throws(CairnError) {
        self.specification = specification
        let axisNames = Set(specification.axes.map(\.name))
        axes = axisNames
        parameters = Dictionary(
            specification.parameters.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        try SpecificationValidation.checkNames(specification)
        var foreign: [NameTemplate] = [], logical: [NameTemplate] = []
        let any = try NameTemplate("{fqn**}")
        for moment in specification.moments {
            try SpecificationValidation.inContext("moment \"\(moment.name)\"") { () throws(CairnError) in
                foreign.append(try NameTemplate(moment.from).inserting(any))
                logical.append(try NameTemplate(moment.to).inserting(any))
            }
        }
        momentNames = (foreign, logical)
        var compiledRules: [CompiledRule] = []
        for (index, rule) in specification.rules.enumerated() {
            try SpecificationValidation.inContext("rule \"\(rule.name)\"") { () throws(CairnError) in
                let compiled = try CompiledRule(rule, index: index, moment: nil, axes: axisNames)
                try RuleValidation(specification, compiled).check()
                compiledRules.append(compiled)
            }
        }
        for (index, rule) in specification.rules.enumerated() {
            for moment in specification.moments where rule.has(moment) {
                try SpecificationValidation.inContext(
                    "rule \"\(rule.name)\", moment \"\(moment.name)\""
                ) { () throws(CairnError) in
                    compiledRules.append(try CompiledRule(rule, index: index, moment: moment, axes: axisNames))
                }
            }
        }
        self.rules = compiledRules
    }
}

extension Rule {
    /// Whether the rule holds for an optimizer moment too.
    func has(_ moment: Moment) -> Bool {
        switch moments {
        case .all: true
        case .only(let names): names.contains(moment.name)
        }
    }
}

/// A rule, or what it says of one moment, with its names read and checked.
struct CompiledRule: Sendable {
    /// A stack of more tensors is taken for a mistake, or for malice.
    static let greatestSlotCount = 1 << 20

    /// How many slots a stack has of which these cells were found.
    static func slotCount(of cells: some Collection<CellID>, named name: String) throws(CairnError) -> Int {
        let lastSlot = cells.map(\.slot).max() ?? 0
        guard lastSlot < greatestSlotCount else {
            throw CairnError(
                .mismatch, "a stack has too many slots",
                .init(tensor: name, expected: "below \(greatestSlotCount)", found: "slot \(lastSlot)"))
        }
        return lastSlot + 1
    }

    /// Which rule of the specification.
    let ruleIndex: Int
    let rule: Rule
    let moment: Moment?
    let from: [NameTemplate]
    let to: [NameTemplate]
    let except: [NameTemplate]
    /// The name of the tensor that this is a copy of.
    let tieTarget: NameTemplate?
    let placement: [On]
    let transforms: [RuleTransform]
    /// The slot of a stack: which of the tensors that become one this is.
    let stackSlot: Arithmetic?
    /// The capture of the logical name that tells apart what an unstacked or copied tensor becomes.
    let unstackCapture: String?
    /// The fields of the logical names that tell instances apart, by how they are written, sorted.
    let fieldTexts: [String]
    let captureNames: Set<String>
    /// Mesh axes whose coordinates decide which logical tensor a name stands for.
    let namingAxes: Set<String>

    /// How messages call it.
    var label: String { moment.map { "rule \"\(rule.name)\" (\($0.name))" } ?? "rule \"\(rule.name)\"" }

    init(_ rule: Rule, index: Int, moment: Moment?, axes: Set<String>) throws(CairnError) {
        ruleIndex = index
        self.rule = rule
        self.moment = moment
        var from: [NameTemplate] = [], to: [NameTemplate] = [], except: [NameTemplate] = []
        for text in rule.from { from.append(try Self.template(text, moment?.from)) }
        // A logical capture stands for what the foreign one of its name may.
        let captured = from.flatMap { $0.boundsByCapture(exceptOn: axes) }
        let bounds = Dictionary(captured, uniquingKeysWith: { first, _ in first })
        for text in rule.to { to.append(try Self.template(text, moment?.to).inheriting(bounds)) }
        for text in rule.except { except.append(try Self.template(text, moment?.from)) }
        if case .tie(let target) = rule.outcome {
            tieTarget = try Self.template(target, moment?.to).inheriting(bounds)
        } else {
            tieTarget = nil
        }
        self.from = from
        self.to = to
        self.except = except
        var placement = rule.placement
        for step in moment?.placement ?? [] {
            if let index = placement.firstIndex(where: { $0.axis == step.axis }) {
                placement.remove(at: index)
            }
            placement.append(step)
        }
        self.placement = placement
        transforms = rule.transforms.filter { transform in
            if case .cast = transform { moment == nil } else { true }
        }
        var slot: Arithmetic?
        var unstack: String?
        for transform in transforms {
            if case .stack(_, let text) = transform { slot = try ArithmeticParser.parse(text.text) }
            if case .unstack(_, let capture) = transform { unstack = capture }
            if case .copy(let copies) = transform { unstack = copies.slot }
        }
        stackSlot = slot
        unstackCapture = unstack
        captureNames = Set(from.flatMap(\.captureNames))
        var fields: Set<String> = []
        var naming = slot?.names.intersection(axes) ?? []
        for template in from { naming.formUnion(template.boundNames.intersection(axes)) }
        for template in to {
            naming.formUnion(template.expressionNames.intersection(axes))
            for field in template.fieldTexts where field != unstack { fields.insert(field) }
        }
        fieldTexts = fields.sorted()
        namingAxes = naming
    }

    private static func template(_ text: String, _ outer: String?) throws(CairnError) -> NameTemplate {
        let inner = try NameTemplate(text)
        guard let outer else { return inner }
        return try NameTemplate(outer).inserting(inner)
    }

    /// What the rule's logical places stand for, given a rank's captures: the instance that a tensor belongs to.
    func key(_ captures: [String: String], in context: EvaluationContext) throws(CairnError) -> [String] {
        var values: [String: String] = [:]
        for template in to {
            for piece in template.pieces {
                switch piece {
                case .literal: break
                case .capture(let name, _): values[name] = captures[name]
                case .expression(let tree, let text):
                    values[text] = "\(try NameTemplate.number(tree, captures, in: context))"
                }
            }
        }
        var key: [String] = []
        for text in fieldTexts {
            guard let value = values[text] else {
                throw CairnError(
                    .invalidArgument, "a capture of the logical name is not in the foreign one", .init(found: text))
            }
            key.append(value)
        }
        return key
    }

    /// A logical name of an instance.
    func logicalName(_ template: NameTemplate, key: [String], unstackSlot: Int?) -> String {
        var values = Dictionary(zip(fieldTexts, key), uniquingKeysWith: { first, _ in first })
        if let unstackCapture, let unstackSlot { values[unstackCapture] = "\(unstackSlot)" }
        return template.pieces.map { piece in
            switch piece {
            case .literal(let text): text
            case .capture(let name, _): values[name] ?? ""
            case .expression(_, let text): values[text] ?? ""
            }
        }.joined()
    }
}

extension NameTemplate {
    /// How the fields are written: the capture's name, or the expression.
    var fieldTexts: [String] {
        pieces.compactMap { piece in
            switch piece {
            case .literal: nil
            case .capture(let name, _): name
            case .expression(_, let text): text
            }
        }
    }

    /// What each capture may stand for, unless that depends on coordinates.
    func boundsByCapture(exceptOn axes: Set<String>) -> [(String, Bound)] {
        pieces.compactMap { piece in
            switch piece {
            case .literal, .expression: nil
            case .capture(_, .range(let lower, let upper)) where !lower.names.union(upper.names).isDisjoint(with: axes):
                nil
            case .capture(let name, let bound): (name, bound)
            }
        }
    }

    /// The same with bounds for captures that have none of their own.
    func inheriting(_ bounds: [String: Bound]) -> NameTemplate {
        with(
            pieces: pieces.map { piece in
                guard case .capture(let name, .segment) = piece, let bound = bounds[name] else { return piece }
                return .capture(name, bound)
            })
    }

    /// The names in the bounds of its captures.
    var boundNames: Set<String> {
        pieces.reduce(into: []) { names, piece in
            guard case .capture(_, .range(let lower, let upper)) = piece else { return }
            names.formUnion(lower.names.union(upper.names))
        }
    }

    /// Whether what fits depends on the rank: coordinates in an expression or in a bound.
    func dependsOnRank(_ axes: Set<String>) -> Bool {
        pieces.contains { piece in
            switch piece {
            case .literal: false
            case .capture(_, .range(let lower, let upper)): !lower.names.union(upper.names).isDisjoint(with: axes)
            case .capture: false
            case .expression(let tree, _): !tree.names.isDisjoint(with: axes)
            }
        }
    }
}
