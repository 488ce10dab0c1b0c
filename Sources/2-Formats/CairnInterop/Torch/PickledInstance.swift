import CairnBase

/// An object by what Python's copy protocol says of it, whichever protocol of pickles spells it.
struct PickledInstance {
    /// Its class, or the function that would make it.
    var constructor: PickleGraph.Global
    /// What that would be called with; of a tuple its elements.
    var arguments: [PickleGraph.Reference]
    /// What it has as a list.
    var elements: [PickleGraph.Reference]
    /// What it has as a dictionary: keys and values in turn.
    var items: [PickleGraph.Reference]
    /// Its attributes: names and values in turn.
    var attributes: [PickleGraph.Reference] = []
    /// A state that is not a dictionary of attributes.
    var state: PickleGraph.Reference?

    init(_ object: PickleGraph.Object, in graph: PickleGraph) {
        constructor = object.constructor
        arguments = object.arguments
        elements = object.elements
        items = object.items
        if ["copy_reg", "copyreg"].contains(constructor.module), let type = arguments.first.flatMap({ graph.global($0) }) {
            readCopy(type, in: graph)
        }
        guard let state = object.state else { return }
        if case .dictionary(let pairs) = graph[state] {
            attributes = pairs
        } else if let parts = graph.sequence(state), parts.count == 2, let pairs = Self.slots(parts, in: graph) {
            attributes = pairs
        } else if case .none = graph[state] {
        } else {
            self.state = state
        }
    }

    /// Protocols 0 and 1 have a function make the object, of its class and of what its base holds.
    private mutating func readCopy(_ type: PickleGraph.Global, in graph: PickleGraph) {
        let given = Array(arguments.dropFirst())
        switch constructor.name {
        case "_reconstructor":
            guard given.count == 2 else { return }
            arguments = []
            switch graph[given[1]] {
            case .dictionary(let pairs): items = pairs + items
            case .list(let list): elements = list + elements
            case .tuple(let tuple): arguments = tuple
            case .none: break
            default: arguments = [given[1]]
            }
        case "__newobj__": arguments = given
        case "__newobj_ex__": arguments = given.first.flatMap { graph.sequence($0) } ?? given
        default: return
        }
        constructor = type
    }

    /// The attributes of a class with `__slots__`: those of its dictionary, if any, and those in slots.
    private static func slots(_ parts: [PickleGraph.Reference], in graph: PickleGraph) -> [PickleGraph.Reference]? {
        var pairs: [PickleGraph.Reference] = []
        for part in parts {
            switch graph[part] {
            case .none: continue
            case .dictionary(let items): pairs += items
            default: return nil
            }
        }
        return pairs
    }

    /// The value of an attribute.
    func attribute(_ name: String, in graph: PickleGraph) -> PickleGraph.Reference? {
        var found: PickleGraph.Reference?
        for index in stride(from: 0, to: attributes.count - 1, by: 2) where graph.string(attributes[index]) == name {
            found = attributes[index + 1]
        }
        return found
    }
}

/// What is read of an object whose class is not known: dictionaries and lists by what is in them, others by what Python's
/// copy protocol says of any object.
struct PickledOpening {
    let leaf: PickledLeaf
    /// What of the object that is.
    let words: String
    /// The things that are read, and those that are not.
    let references: [PickleGraph.Reference]
    let rest: [PickleGraph.Reference]

    /// `nil` for an object that stays closed: one without tensors that is not a dictionary or list.
    ///
    /// - Parameter holds: Whether tensors are in something.
    init?(
        _ instance: PickledInstance, in graph: PickleGraph, holds: (PickleGraph.Reference) -> Bool
    ) {
        // A method of an object is not a holder of it.
        if let first = instance.arguments.first.flatMap({ graph.object($0) }),
            instance.constructor.path.hasPrefix(first.constructor.path + ".")
        {
            return nil
        }
        let state = instance.state.flatMap { graph.sequence($0) } ?? []
        let values = stride(from: 1, to: instance.attributes.count, by: 2).map { instance.attributes[$0] }
        let only = instance.arguments.count == 1 ? instance.arguments.first : nil
        if !instance.items.isEmpty {
            leaf = .mapping(instance.items)
            words = "it is read as a dictionary"
            references = instance.items
            rest = instance.arguments + instance.elements + values + state
        } else if !instance.elements.isEmpty {
            leaf = .sequence(instance.elements)
            words = "it is read as a list"
            references = instance.elements
            rest = instance.arguments + values + state
        } else if values.contains(where: holds) {
            leaf = .mapping(instance.attributes)
            words = "its attributes are read"
            references = instance.attributes
            rest = instance.arguments + state
        } else if state.contains(where: holds) {
            leaf = .sequence(state)
            words = "its state is read as a list"
            references = state
            rest = instance.arguments
        } else if let only, holds(only), let items = PickledLeaf.pairs(only, in: graph) {
            leaf = .mapping(items)
            words = "it is read as a dictionary"
            references = items
            rest = values
        } else if instance.arguments.contains(where: holds) {
            leaf = .tuple(instance.arguments)
            words = "what it was made of is read as a tuple"
            references = instance.arguments
            rest = values
        } else {
            return nil
        }
    }
}

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
            {
                instance.attributes = attributes
            }
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
