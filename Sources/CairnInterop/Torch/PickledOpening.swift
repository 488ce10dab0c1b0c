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
        { return nil }
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
