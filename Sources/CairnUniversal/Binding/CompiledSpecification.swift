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
