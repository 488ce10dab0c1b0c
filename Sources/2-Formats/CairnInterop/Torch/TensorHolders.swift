import CairnBase
import CairnCheckpoint
import CairnTensor

/// Which things of a pickle hold tensors, directly or within what they hold.
struct TensorHolders {
    /// By the number of the node.
    private let holds: [Bool]

    /// How many times things may be named in each other, for a small pickle and for each byte of a large one.
    private static let leastLimit = 1 << 22
    private static let limitPerByte = 4

    /// `nil` where things name each other more often than a pickle has bytes for.
    init?(_ graph: PickleGraph) {
        var count = 0
        for node in graph.nodes { count = count.adding(clamped: Self.childCount(of: node, in: graph)) }
        guard count <= max(Self.leastLimit, graph.byteCount.multiplied(checked: Self.limitPerByte) ?? Int.max),
            count < Int(Int32.max)
        else { return nil }
        // For each thing those that hold it directly, as one array with the place where each thing's begin.
        var begins = [Int32](repeating: 0, count: graph.nodes.count + 1)
        var work: [Int32] = []
        for index in graph.nodes.indices {
            let node = graph.nodes[index]
            for child in Self.children(of: node, in: graph) { begins[Int(child.index) + 1] += 1 }
            if Self.isTensor(node, in: graph) { work.append(Int32(index)) }
        }
        for index in begins.indices.dropFirst() { begins[index] += begins[index - 1] }
        var owners = [Int32](repeating: 0, count: Int(begins.last ?? 0))
        var next = begins
        for index in graph.nodes.indices {
            for child in Self.children(of: graph.nodes[index], in: graph) {
                owners[Int(next[Int(child.index)])] = Int32(index)
                next[Int(child.index)] += 1
            }
        }
        var holds = [Bool](repeating: false, count: graph.nodes.count)
        for index in work { holds[Int(index)] = true }
        while let index = work.popLast() {
            for owner in owners[Int(begins[Int(index)])..<Int(begins[Int(index) + 1])] where !holds[Int(owner)] {
                holds[Int(owner)] = true
                work.append(owner)
            }
        }
        self.holds = holds
    }

    func contains(_ reference: PickleGraph.Reference) -> Bool { holds[Int(reference.index)] }

    /// The tensors within some things, except for those within others, and how many things were looked at for it.
    static func count(
        under roots: [PickleGraph.Reference], except others: [PickleGraph.Reference], in graph: PickleGraph
    ) -> (count: Int, visits: Int) {
        var seen: Set<PickleGraph.Reference> = []
        var count = 0
        for (starts, isCounted) in [(others, false), (roots, true)] {
            var work = starts.filter { seen.insert($0).inserted }
            while let next = work.popLast() {
                let node = graph[next]
                if isTensor(node, in: graph) {
                    if isCounted { count += 1 }
                    continue
                }
                for child in children(of: node, in: graph) where seen.insert(child).inserted { work.append(child) }
            }
        }
        return (count, seen.count)
    }

    private static func isTensor(_ node: PickleGraph.Node, in graph: PickleGraph) -> Bool {
        guard case .object(let index) = node else { return false }
        let constructor = graph.objects[Int(index)].constructor
        switch constructor.module {
        case "torch._utils", "torch._tensor": return constructor.name.hasPrefix("_rebuild")
        default:
            return constructor.module.hasPrefix("numpy")
                && ["_reconstruct", "_frombuffer"].contains(constructor.name)
        }
    }

    private static func childCount(of node: PickleGraph.Node, in graph: PickleGraph) -> Int {
        switch node {
        case .list(let inner), .tuple(let inner), .set(let inner), .dictionary(let inner): return inner.count
        case .object(let index):
            let object = graph.objects[Int(index)]
            return object.arguments.count + object.elements.count + object.items.count + 1
        default: return 0
        }
    }

    private static func children(
        of node: PickleGraph.Node, in graph: PickleGraph
    ) -> [PickleGraph.Reference] {
        switch node {
        case .list(let inner), .tuple(let inner), .set(let inner), .dictionary(let inner): return inner
        case .object(let index):
            let object = graph.objects[Int(index)]
            return object.arguments + object.elements + object.items + (object.state.map { [$0] } ?? [])
        default: return []
        }
    }
}

/// A part of a state without tensors, made once however often it is met.
struct PlainPart {
    /// The part as one value, as ``StateLeaves`` would put it together of its leaves.
    var value: Value
    /// The same with its kinds of sequences and keys.
    var node: StateNode
    /// How many values it is made of.
    var count: Int
    /// How deep they are in each other.
    var depth: Int
}

/// The parts of a pickle without tensors that were met.
struct PlainParts {
    enum Finding {
        case plain(PlainPart)
        /// It has tensors, or is one.
        case mixed
        /// It is being looked at: what is met within holds itself.
        case open
    }

    private var findings: [PickleGraph.Reference: Finding] = [:]

    subscript(reference: PickleGraph.Reference) -> Finding? {
        get { findings[reference] }
        set { findings[reference] = newValue }
    }
}
