import CairnBase

/// mergekit's methods by their names, with the parameters of one tensor.
struct RecipeMethod {
    let recipe: MergeRecipe
    let slice: MergeRecipe.Slice
    /// Where in the recipe the slice and its sources set parameters.
    let paths: (slice: String, sources: [String])
    let use: SettingUse
    /// The name in the result.
    let tensor: String
    let position: Double
    let base: String?

    static let known = [
        "linear", "slerp", "multislerp", "karcher", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs",
        "breadcrumbs_ties", "model_stock", "passthrough",
    ]

    /// - Parameter names: The tensor's name in each source.
    func make(names: [String]) throws(CairnError) -> (method: MergeMethod, hasBase: Bool) {
        let outer = [(paths.slice, slice.parameters), ("parameters", recipe.parameters)]
        let shared = RecipeParameters(scopes: outer, use: use, tensor: tensor, position: position)
        let own = zip(zip(slice.sources, paths.sources), names).map { source, name in
            (
                isBase: source.0.model == base,
                parameters: RecipeParameters(
                    scopes: [(source.1, source.0.parameters)] + outer, use: use, tensor: name, position: position,
                    model: source.0.model)
            )
        }
        if !["linear", "karcher", "passthrough"].contains(recipe.method), own.count(where: \.isBase) > 1 {
            throw CairnError(
                .invalidArgument, "the base is among the models more than once",
                .init(found: base, advice: "list it once, or not at all"))
        }
        let others = own.filter { !$0.isBase }.map(\.parameters)
        func numbers(_ name: String, of list: [RecipeParameters]) throws(CairnError) -> [Double] {
            var values: [Double] = []
            for parameters in list { values.append(try parameters.requiredNumber(name)) }
            return values
        }
        switch recipe.method {
        case "linear":
            return (
                .linear(
                    weights: try numbers("weight", of: own.map(\.parameters)),
                    normalizes: try shared.bool("normalize", default: true)), false
            )
        case "slerp":
            try requireBase(own.map(\.isBase))
            guard own.count == 2 else { throw wrongCount("two models, one of which is the base", own.count) }
            return (.slerp(t: try shared.requiredNumber("t")), true)
        case "multislerp":
            if base != nil { try requireBase(own.map(\.isBase)) }
            let hasBase = base != nil
            return (
                .multiSlerp(
                    weights: try numbers("weight", of: others),
                    normalizes: try shared.bool("normalize_weights", default: true), hasBase: hasBase,
                    epsilon: try shared.number("eps", default: 1e-8)), hasBase
            )
        case "karcher":
            return (
                .karcher(
                    iterationLimit: Int(clamping: Int64(max(-1, min(1e9, try shared.number("max_iter", default: 10))))),
                    tolerance: try shared.number("tol", default: 1e-5)), false
            )
        case "model_stock":
            try requireBase(own.map(\.isBase))
            guard own.count >= 3 else { throw wrongCount("at least three models, the base among them", own.count) }
            guard try !shared.bool("filter_wise", default: false) else {
                throw CairnError(.unsupported, "model_stock is not computed filter by filter")
            }
            return (.modelStock, true)
        case "passthrough":
            guard own.count == 1 else { throw wrongCount("one model for each tensor", own.count) }
            return (.passthrough(scale: try own[0].parameters.number("scale")), false)
        default:
            try requireBase(own.map(\.isBase))
            return (.taskVectors(try taskVectors(shared, others)), true)
        }
    }

    private func taskVectors(
        _ shared: RecipeParameters, _ others: [RecipeParameters]
    ) throws(CairnError) -> TaskVectorMethod {
        let isMajority: Bool, normalizes: Bool, rescales: Bool
        switch recipe.method {
        case "task_arithmetic": (isMajority, normalizes, rescales) = (false, false, false)
        case "ties": (isMajority, normalizes, rescales) = (true, true, false)
        case "dare_linear": (isMajority, normalizes, rescales) = (false, false, true)
        case "dare_ties": (isMajority, normalizes, rescales) = (true, false, true)
        case "breadcrumbs": (isMajority, normalizes, rescales) = (false, false, false)
        case "breadcrumbs_ties": (isMajority, normalizes, rescales) = (true, false, false)
        default:
            throw CairnError(
                .unsupported, "the merge method is not known",
                .init(expected: "one of " + Self.known.joined(separator: ", "), found: recipe.method))
        }
        var weights: [Double] = [], sparsifications: [TaskVectorMethod.Sparsification] = []
        for parameters in others {
            weights.append(try parameters.requiredNumber("weight"))
            let density = try parameters.number("density", default: 1)
            switch recipe.method {
            case "ties": sparsifications.append(.largest(density: density))
            case "dare_linear", "dare_ties": sparsifications.append(.random(density: density))
            case "breadcrumbs", "breadcrumbs_ties":
                sparsifications.append(
                    .middle(density: density, outliers: try parameters.number("gamma", default: 0.01)))
            default: sparsifications.append(.none)
            }
        }
        return TaskVectorMethod(
            weights: weights, sparsifications: sparsifications,
            rescaling: try shared.bool("rescale", default: rescales) ? .sumOfMagnitudes : .none,
            takesMajority: isMajority, normalizes: try shared.bool("normalize", default: normalizes),
            lambda: try shared.number("lambda", default: 1))
    }

    private func requireBase(_ isBase: [Bool]) throws(CairnError) {
        guard !Self.known.contains(recipe.method) || isBase.contains(true) else {
            throw CairnError(
                .invalidArgument, "the method needs a base",
                .init(expected: "base_model to be one of the models", found: base ?? "none"))
        }
    }

    private func wrongCount(_ expected: String, _ found: Int) -> CairnError {
        CairnError(
            .invalidArgument, "\(recipe.method) merges another number of models",
            .init(expected: expected, found: "\(found)"))
    }
}

/// What a parameter of a recipe may be.
struct ParameterDomain: Sendable {
    private enum Kind: Sendable { case number, wholeNumber, flag }

    private let kind: Kind
    private let range: ClosedRange<Double>
    /// Whether the least number of the range is outside.
    private let isAbove: Bool
    /// What messages call it, such as `a number from 0 to 1`.
    let words: String

    private static let anyNumber = -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude

    private static func number(
        _ range: ClosedRange<Double> = anyNumber, isAbove: Bool = false, _ words: String = "a number, such as 0.5"
    ) -> ParameterDomain {
        ParameterDomain(kind: .number, range: range, isAbove: isAbove, words: words)
    }

    private static let flag = ParameterDomain(kind: .flag, range: 0...1, isAbove: false, words: "true or false")
    private static let part = number(0...1, "a number from 0 to 1")

    /// mergekit's parameters of the methods that are understood, and one that only saves it memory.
    static let all: [String: ParameterDomain] = [
        "weight": number(), "t": number(), "lambda": number(), "scale": number(), "density": part, "gamma": part,
        "eps": number(0...anyNumber.upperBound, "a number that is not negative"),
        "tol": number(0...anyNumber.upperBound, isAbove: true, "a number above 0"),
        "max_iter": ParameterDomain(
            kind: .wholeNumber, range: 0...10_000, isAbove: false, words: "a whole number from 0 to 10000"),
        "normalize": flag, "normalize_weights": flag, "rescale": flag, "filter_wise": flag, "int8_mask": flag,
    ]

    func contains(_ scalar: MergeRecipe.Scalar) -> Bool {
        switch (kind, scalar) {
        case (_, .text): false
        case (.flag, .bool): true
        // As mergekit has it, true is 1.
        case (_, .bool(let value)): contains(.number(value ? 1 : 0))
        case (.flag, .number(let value)): value == 0 || value == 1
        case (.wholeNumber, .number(let value)): range.contains(value) && value.rounded() == value
        case (.number, .number(let value)): range.contains(value) && !(isAbove && value == range.lowerBound)
        }
    }

    /// The first of a setting's values that is not one of these.
    func firstOutside(_ setting: MergeRecipe.Setting) -> MergeRecipe.Scalar? {
        switch setting {
        case .scalar(let scalar): contains(scalar) ? nil : scalar
        case .gradient(let scalars): scalars.first { !contains($0) }
        case .conditions(let conditions):
            conditions.lazy.compactMap { firstOutside($0.value) }.first
        }
    }
}
