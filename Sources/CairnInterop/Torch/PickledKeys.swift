import CairnBase
import CairnCheckpoint
import CairnTensor

/// The keys of a pickled dictionary as steps of paths, each with its value, in their order.
struct PickledKeys {
    private(set) var entries: [(key: StateKey, value: PickleGraph.Reference)] = []
    /// Those that are only text which shows what they were.
    private(set) var shown: [StateKey] = []

    /// The last value of a repeated key counts. Keys that are not plain values go by their text; different ones of one
    /// text get numbers behind it.
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
        var texts = Set(positions.keys.map { ExactString($0.text) })
        let text = PythonText(graph)
        var repeated = Set<Int>()
        for (position, reference) in later {
            let value = Self.value(reference, in: graph, depth: 0).map { StateKey.value($0) }
            if let value, let earlier = positions[value] {
                entries[earlier].value = entries[position].value
                repeated.insert(position)
                continue
            }
            var key = value ?? StateKey(text.key(reference))
            let plain = key.text
            var number = 2
            while texts.contains(ExactString(key.text)) {
                key = StateKey("\(plain)#\(number)")
                number += 1
            }
            if key != value { shown.append(key) }
            texts.insert(ExactString(key.text))
            positions[key] = position
            entries[position].key = key
        }
        if !repeated.isEmpty { entries = entries.indices.filter { !repeated.contains($0) }.map { entries[$0] } }
    }

    /// A key that is neither text nor an integer, where it is made of plain values.
    private static func value(_ reference: PickleGraph.Reference, in graph: PickleGraph, depth: Int) -> Value? {
        switch graph[reference] {
        case .none: return .null
        case .bool(let value): return .bool(value)
        case .double(let value): return .double(value)
        case .bytes(let bytes): return .bytes(bytes)
        case .object: return PickledLeaf.bytes(reference, in: graph).map { .bytes($0) }
        case .string(let text): return depth == 0 ? nil : .string(text)
        case .integer(let value): return depth == 0 ? nil : .integer(value)
        case .tuple(let elements) where depth < 8 && elements.count <= 64:
            var values: [Value] = []
            for element in elements {
                guard let value = value(element, in: graph, depth: depth + 1) else { return nil }
                values.append(value)
            }
            return .list(values)
        default: return nil
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
