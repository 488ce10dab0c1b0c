import CairnBase

/// The parameters of one tensor of a recipe: what they are set to, from the closest setting outwards.
struct RecipeParameters {
    /// From the closest to the furthest.
    let scopes: [(path: String, settings: [String: MergeRecipe.Setting])]
    let use: SettingUse
    let tensor: String
    /// Where the tensor's layer is among the layers, from 0 to 1.
    let position: Double
    /// What messages call the model, if it is a model's parameters.
    var model: String?

    func number(_ name: String) throws(CairnError) -> Double? {
        use.ask(name)
        for (path, settings) in scopes {
            guard let setting = settings[name], let value = try number(setting, name) else { continue }
            use.use(path, name, condition: condition(setting))
            return value
        }
        return nil
    }

    func number(_ name: String, default other: Double) throws(CairnError) -> Double { try number(name) ?? other }

    func requiredNumber(_ name: String) throws(CairnError) -> Double {
        if let value = try number(name) { return value }
        throw CairnError(
            .invalidArgument, "the recipe does not say a tensor's \(name)",
            .init(
                file: model, tensor: tensor,
                advice: "set it for the model, or for all models in the recipe's own parameters"))
    }

    func bool(_ name: String, default other: Bool) throws(CairnError) -> Bool {
        use.ask(name)
        for (path, settings) in scopes {
            guard let setting = settings[name], let scalar = chosen(setting) else { continue }
            use.use(path, name, condition: condition(setting))
            switch scalar {
            case .bool(let value): return value
            case .number(let value) where value == 0 || value == 1: return value == 1
            default: throw problem(name, "true or false")
            }
        }
        return other
    }

    private func number(_ setting: MergeRecipe.Setting, _ name: String) throws(CairnError) -> Double? {
        switch setting {
        case .scalar(let scalar): return try number(scalar, name)
        case .gradient(let scalars):
            guard !scalars.isEmpty else { return nil }
            var values: [Double] = []
            for scalar in scalars { values.append(try number(scalar, name)) }
            let place = position * Double(values.count - 1)
            let first = min(values.count - 1, Int(place)), next = min(values.count - 1, first + 1)
            let part = place - Double(first)
            return (1 - part) * values[first] + part * values[next]
        case .conditions(let conditions):
            guard let condition = conditions.first(where: fits) else { return nil }
            return try number(condition.value, name)
        }
    }

    private func number(_ scalar: MergeRecipe.Scalar, _ name: String) throws(CairnError) -> Double {
        switch scalar {
        case .number(let value): return value
        case .bool(let value): return value ? 1 : 0
        case .text: throw problem(name, "a number")
        }
    }

    /// What is set where values are not interpolated.
    private func chosen(_ setting: MergeRecipe.Setting) -> MergeRecipe.Scalar? {
        switch setting {
        case .scalar(let scalar): scalar
        case .gradient(let scalars):
            scalars.isEmpty ? nil : scalars[min(scalars.count - 1, Int(position * Double(scalars.count - 1)))]
        case .conditions(let conditions): conditions.first(where: fits).flatMap { chosen($0.value) }
        }
    }

    private func fits(_ condition: MergeRecipe.Condition) -> Bool {
        condition.filter.map { Self.fits($0, tensor) } ?? true
    }

    /// Which condition of a setting counts for the tensor, if it has any.
    private func condition(_ setting: MergeRecipe.Setting) -> Int? {
        if case .conditions(let conditions) = setting { conditions.firstIndex(where: fits) } else { nil }
    }

    /// Whether a filter is part of a tensor's name.
    static func fits(_ filter: String, _ tensor: String) -> Bool { tensor.utf8.contains(filter.utf8) }

    private func problem(_ name: String, _ expected: String) -> CairnError {
        CairnError(
            .invalidArgument, "a parameter has a value of the wrong kind",
            .init(file: model, tensor: tensor, expected: "\(name) to be \(expected)"))
    }
}

extension Collection<UInt8> {
    /// Whether these bytes occur in a row.
    fileprivate func contains(_ other: some Collection<UInt8>) -> Bool {
        let (all, wanted) = (Array(self), Array(other))
        guard wanted.count <= all.count else { return false }
        return (0...all.count - wanted.count).contains { all[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}
