import CairnBase

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
