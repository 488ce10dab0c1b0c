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
