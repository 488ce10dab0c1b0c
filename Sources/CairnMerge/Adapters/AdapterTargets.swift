import CairnBase

/// Which modules an adapter is for, as its configuration says and PEFT's `check_target_module_exists` reads it.
package struct AdapterTargets: Sendable, Hashable {
    /// Modules by their names or last parts, or by a regular expression.
    package enum Selection: Sendable, Hashable {
        case names([String])
        case pattern(String)
    }

    /// `target_modules`; `nil` for what the model's kind suggests.
    package var modules: Selection?
    /// `exclude_modules`
    package var excluded: Selection?
    /// `modules_to_save`, which have no matrices.
    package var saved: [String] = []
    /// `layers_to_transform`; `nil` for all.
    package var layers: [Int]?
    /// `layers_pattern`: what the parts before a layer's number may be; empty for anything.
    package var layerNames: [String] = []
}

/// The same with its patterns read.
struct AdapterTargetMatcher {
    private enum Selection {
        case names([String])
        case pattern(ModulePattern)
        /// What cannot be told.
        case unknown

        init(_ selection: AdapterTargets.Selection?) {
            switch selection {
            case nil: self = .unknown
            case .names(let names)?: self = .names(names)
            // PEFT writes the modules' names; where this was left, it is for all linear ones.
            case .pattern("all-linear")?: self = .unknown
            case .pattern(let text)?: self = (try? ModulePattern(text)).map { .pattern($0) } ?? .unknown
            }
        }

        func contains(_ module: String, _ name: ModuleName) -> Bool? {
            switch self {
            case .unknown: nil
            case .names(let names): names.contains { module == $0 || module.hasSuffix("." + $0) }
            case .pattern(let pattern): pattern.fitsWhole(name)
            }
        }
    }

    private let modules: Selection
    private let excluded: Selection
    private let saved: [ModulePattern]
    private let layers: Set<Int>?
    private let layerNames: [ModulePattern]

    /// Patterns that cannot be followed select nothing that is told by them: the matrices say for what they are.
    init(_ targets: AdapterTargets) {
        modules = Selection(targets.modules)
        excluded = Selection(targets.excluded)
        saved = targets.saved.compactMap { try? ModulePattern($0) }
        layers = targets.layers.map(Set.init)
        layerNames = targets.layerNames.compactMap { try? ModulePattern($0) }
    }

    /// Whether the module, or what it lies in, is saved whole.
    func isSaved(_ module: String) -> Bool {
        let name = ModuleName(module)
        return saved.contains { pattern in
            pattern.fits(name).contains { $0.ends.contains { $0 == name.scalars.count || name.scalars[$0] == "." } }
        }
    }

    /// Whether the adapter is for a module; where that cannot be told, it is.
    func contains(_ module: String) -> Bool {
        let name = ModuleName(module)
        if excluded.contains(module, name) == true || isSaved(module) { return false }
        guard modules.contains(module, name) ?? true else { return false }
        guard let layers, case .names(let names) = modules, !names.contains(module) else { return true }
        return layer(of: name).map { layers.contains($0) } ?? false
    }

    /// The first number of a layer in a name.
    private func layer(of name: ModuleName) -> Int? {
        if layerNames.isEmpty {
            // The part behind the second dot at the earliest, and not the last.
            return name.begins.dropFirst(2).lazy.compactMap { Self.number(in: name.scalars, at: $0) }.first
        }
        for pattern in layerNames {
            for (_, ends) in pattern.fits(name) {
                for end in ends.reversed() where end < name.scalars.count && name.scalars[end] == "." {
                    if let number = Self.number(in: name.scalars, at: end + 1) { return number }
                }
            }
        }
        return nil
    }

    /// The number that begins there and ends with a dot.
    private static func number(in scalars: [Unicode.Scalar], at begin: Int) -> Int? {
        let digits = scalars[begin...].prefix { ("0"..."9").contains($0) }
        guard !digits.isEmpty, digits.endIndex < scalars.count, scalars[digits.endIndex] == "." else { return nil }
        return Int(String(String.UnicodeScalarView(digits)))
    }
}
