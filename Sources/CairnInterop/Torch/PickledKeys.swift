import CairnBase
import CairnCheckpoint

/// The keys of a pickled dictionary as steps of paths, each with its value, in their order.
struct PickledKeys {
    private(set) var entries: [(key: StateKey, value: PickleGraph.Reference)] = []

    /// Of a key that comes twice, the last value counts. Keys that are no text and no integers go by their text; different
    /// ones of one text get numbers behind it.
    init(_ items: [PickleGraph.Reference], in graph: PickleGraph) {
        var positions: [StateKey: Int] = [:]
        var others: [PickleGraph.Reference: Int] = [:]
        var later: [(position: Int, reference: PickleGraph.Reference)] = []
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            let (reference, value) = (items[index], items[index + 1])
            if let key = Self.exact(reference, in: graph) {
                if let position = positions[key] {
                    entries[position].value = value
                    continue
                }
                positions[key] = entries.count
                entries.append((key, value))
            } else if let position = others[reference] {
                entries[position].value = value
            } else {
                others[reference] = entries.count
                later.append((entries.count, reference))
                entries.append((StateKey(""), value))
            }
        }
        let text = PythonText(graph)
        for (position, reference) in later {
            let plain = text.key(reference)
            var key = StateKey(plain)
            var number = 2
            while positions[key] != nil {
                key = StateKey("\(plain)#\(number)")
                number += 1
            }
            positions[key] = position
            entries[position].key = key
        }
    }

    private static func exact(_ reference: PickleGraph.Reference, in graph: PickleGraph) -> StateKey? {
        switch graph[reference] {
        case .string(let text): StateKey(text)
        case .integer(let value): .index(Int(value))
        default: nil
        }
    }
}
