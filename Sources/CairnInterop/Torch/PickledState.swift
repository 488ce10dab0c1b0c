import CairnBase
import CairnTensor

/// The tensors and values of a pickled state: dictionaries and lists in each other, with leaves.
///
/// Only what is known to make data is understood (``PickledLeaf``). What is not stays closed: it is shown as text, and
/// what it holds is left out and said to be.
struct PickledState {
    enum Leaf {
        /// A view of a storage that is elsewhere.
        case view(TorchView)
        /// A tensor whose elements are in the pickle itself.
        case held(Tensor)
    }

    /// The tensors with their paths, in the order of the pickle.
    private(set) var tensors: [(path: [StateKey], leaf: Leaf)] = []
    /// The values with their paths.
    private(set) var values: [(path: [StateKey], value: Value)] = []
    /// What is in the pickle and not here, a sentence each.
    private(set) var omissions: [String] = []

    private let graph: PickleGraph
    private let file: String
    private var visits = 0

    private static let greatestDepth = 200

    /// - Throws: ``CairnError/Code/unsupported`` for tensors that cannot be delivered, naming them, and for pickles
    ///   whose whole is an object; ``CairnError/Code/malformed`` for tensors that contradict themselves.
    init(_ graph: PickleGraph, file: String) throws(CairnError) {
        self.graph = graph
        self.file = file
        try add(graph.root, at: [], inModule: false)
    }

    private mutating func add(
        _ reference: PickleGraph.Reference, at path: [StateKey], inModule: Bool
    ) throws(CairnError) {
        visits += 1
        // Shared parts are walked each time they are met, so a small pickle could keep this busy forever.
        guard path.count <= Self.greatestDepth, visits <= 1 << 16 || visits / 16 <= graph.nodes.count else {
            throw CairnError(
                .unsupported, "the state is nested too deeply or holds itself",
                .init(file: file, tensor: StateNames.joined(Array(path.prefix(8)))))
        }
        let leaf: PickledLeaf
        do throws(CairnError) {
            leaf = try PickledLeaf(reference, in: graph)
        } catch {
            throw error.adding(.init(file: file, tensor: StateNames.joined(path)))
        }
        switch leaf {
        case .view(let view): tensors.append((path, .view(view)))
        case .held(let tensor): tensors.append((path, .held(tensor)))
        case .value(let value):
            if !inModule { values.append((path, value)) }
        case .sequence(let elements):
            if elements.isEmpty, !inModule { values.append((path, .list([]))) }
            for (index, element) in elements.enumerated() {
                try add(element, at: path + [.index(index)], inModule: inModule)
            }
        case .mapping(let items):
            try addItems(items, at: path, inModule: inModule)
        case .module(let attributes):
            // Of a scripted module its tensors are the state; the other attributes belong to its code.
            try addItems(attributes, at: path, inModule: true)
        case .opaque(let name):
            guard !path.isEmpty else {
                throw CairnError(
                    .unsupported, "the file holds an object of the class \(name), not a state",
                    .init(
                        file: file, expected: "a dictionary, a list or a tensor",
                        advice: "save the object's state_dict() instead"))
            }
            guard !inModule else { return }
            values.append((path, .string(PythonText(graph).describe(reference))))
            let count = PickledLeaf.tensorCount(under: reference, in: graph)
            omissions.append(
                "\(StateNames.joined(path)) is an object of the class \(name): it is shown as text"
                    + (count == 0 ? "" : ", and \(count) tensors in it are left out"))
        }
    }

    private mutating func addItems(
        _ items: [PickleGraph.Reference], at path: [StateKey], inModule: Bool
    ) throws(CairnError) {
        if items.isEmpty, !inModule { values.append((path, .dictionary([:]))) }
        // Of a key that comes twice, the last one counts.
        var last: [StateKey: Int] = [:]
        var keys: [StateKey] = []
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            let key = self.key(items[index])
            keys.append(key)
            last[key] = index
        }
        for (position, key) in keys.enumerated() where last[key] == position * 2 {
            try add(items[position * 2 + 1], at: path + [key], inModule: inModule)
        }
    }

    private func key(_ reference: PickleGraph.Reference) -> StateKey {
        switch graph[reference] {
        case .string(let text): StateKey(text)
        case .integer(let value): .index(Int(value))
        default: StateKey(PythonText(graph).describe(reference))
        }
    }
}
