import CairnBase

/// A module of `torch.nn` that was pickled whole: what of it `state_dict()` would have.
///
/// Parameters, buffers and the modules within are plain dictionaries among a module's attributes. What a module's own code
/// would add to its state stands nowhere.
struct PickledModule {
    let className: String
    /// Names and tensors, by the names that the state has for them.
    private(set) var tensors: [(name: String, reference: PickleGraph.Reference)] = []
    /// What stands where a module or a tensor should be and is neither.
    private(set) var others: [(name: String, reference: PickleGraph.Reference)] = []

    /// The modules that were met.
    private var count = 0

    /// How deep modules may be in each other.
    private static let greatestDepth = 100
    /// The most tensors, and modules: a small pickle could name one module without end.
    private static let greatestCount = 1 << 18

    /// `nil` for an object of something else.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for modules that hold themselves.
    init?(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) {
        guard let parts = Parts(object, in: graph) else { return nil }
        className = parts.className
        try add(parts, prefix: "", depth: 0, in: graph)
    }

    private struct Parts {
        let className: String
        var parameters: [PickleGraph.Reference]
        var buffers: [PickleGraph.Reference]
        var modules: [PickleGraph.Reference]
        /// Buffers that are not part of the state.
        var passing: Set<String> = []

        init?(_ object: PickleGraph.Object, in graph: PickleGraph) {
            var instance = PickledInstance(object, in: graph)
            // A function makes the module of a traced graph again, from its attributes.
            if object.constructor.module.hasPrefix("torch.fx"), let first = object.arguments.first,
                case .dictionary(let attributes) = graph[first]
            { instance.attributes = attributes }
            guard let parameters = Self.pairs("_parameters", of: instance, in: graph),
                let modules = Self.pairs("_modules", of: instance, in: graph)
            else { return nil }
            className = instance.constructor.path
            self.parameters = parameters
            self.modules = modules
            buffers = Self.pairs("_buffers", of: instance, in: graph) ?? []
            if let set = instance.attribute("_non_persistent_buffers_set", in: graph) {
                passing = Set(PickledLeaf.elements(ofSet: set, in: graph).compactMap { graph.string($0) })
            }
        }

        private static func pairs(
            _ name: String, of instance: PickledInstance, in graph: PickleGraph
        ) -> [PickleGraph.Reference]? {
            instance.attribute(name, in: graph).flatMap { PickledLeaf.pairs($0, in: graph) }
        }
    }

    private mutating func add(_ parts: Parts, prefix: String, depth: Int, in graph: PickleGraph) throws(CairnError) {
        guard depth < Self.greatestDepth else { throw Self.excessive(prefix) }
        for (pairs, passing) in [(parts.parameters, Set<String>()), (parts.buffers, parts.passing)] {
            for (name, reference) in Self.named(pairs, in: graph) where !passing.contains(name) {
                if case .none = graph[reference] { continue }
                guard tensors.count < Self.greatestCount else { throw Self.excessive(prefix) }
                tensors.append((prefix + name, reference))
            }
        }
        for (name, reference) in Self.named(parts.modules, in: graph) {
            if case .none = graph[reference] { continue }
            count += 1
            guard count < Self.greatestCount else { throw Self.excessive(prefix) }
            guard let inner = graph.object(reference).flatMap({ Parts($0, in: graph) }) else {
                others.append((prefix + name, reference))
                continue
            }
            try add(inner, prefix: prefix + name + ".", depth: depth + 1, in: graph)
        }
    }

    private static func excessive(_ name: String) -> CairnError {
        CairnError(
            .unsupported, "a module is nested too deeply, holds itself or repeats itself too often",
            .init(tensor: String(name.prefix(200))))
    }

    private static func named(
        _ pairs: [PickleGraph.Reference], in graph: PickleGraph
    ) -> [(name: String, reference: PickleGraph.Reference)] {
        var positions: [String: Int] = [:]
        var named: [(name: String, reference: PickleGraph.Reference)] = []
        for index in stride(from: 0, to: pairs.count - 1, by: 2) {
            let name = PythonText(graph).plain(pairs[index])
            if let position = positions[name] {
                named[position].reference = pairs[index + 1]
            } else {
                positions[name] = named.count
                named.append((name, pairs[index + 1]))
            }
        }
        return named
    }
}
