package import CairnBase
public import CairnTensor
import Synchronization

/// Something that is not carried over as it was: what a command says on standard error, and what `--strict` makes an error.
public struct LossNote: Sendable, Hashable {
    /// What kind of loss it is.
    public enum Kind: Sendable, Hashable {
        /// Finite numbers became infinite or NaN, or the largest number of a type.
        case overflow(count: Int, of: Int, greatest: Double, to: ScalarType)
        /// Numbers changed by more than a float's rounding: integers that were cut, fractions, signs.
        case change(count: Int, of: Int, from: ScalarType, to: ScalarType)
    }

    /// The tensor, or the path of a value.
    public var name: String
    /// What became of it.
    public var kind: Kind

    public init(name: String, kind: Kind) {
        self.name = name
        self.kind = kind
    }
}

extension LossNote: CustomStringConvertible {
    /// One sentence, such as `"w": 3 of 8 numbers are too large for F16 and became infinite or NaN; the largest is 70000.0`.
    public var description: String {
        switch kind {
        case .overflow(let count, let total, let greatest, let type):
            "\"\(name)\": \(count) of \(total) numbers are too large for \(type) and became infinite, NaN or its largest; "
                + "the largest is \(greatest)"
        case .change(let count, let total, let from, let type):
            "\"\(name)\": \(count) of \(total) numbers of \(from) are none of \(type) and were changed"
        }
    }
}

/// Names in a note: all of them, but for the rest of very many.
package enum NameList {
    /// How many names a note spells out.
    private static let shownCount = 100

    /// `"a", "b" and 3 more`
    package static func text(_ names: [String]) -> String {
        let rest = names.count - min(names.count, shownCount)
        let shown = names.prefix(shownCount).map { "\"\($0)\"" }.joined(separator: ", ")
        return shown + (rest > 0 ? " and \(rest) more" : "")
    }
}

/// What conversions of tensors have lost so far: written by the conversions, from any thread, read when all is done.
///
/// What is read twice counts once, as long as it is read in the same parts.
package final class LossLedger: Sendable {
    private struct TensorLoss {
        var source: ScalarType
        var target: ScalarType
        var elementCount: Int
        var losses: [Region: ConversionLoss] = [:]
    }

    private let tensors = Mutex<[ExactString: TensorLoss]>([:])

    package init() {}

    /// Records what a region of a tensor lost.
    package func add(
        _ loss: ConversionLoss, in region: Region, of name: String, shape: Shape, from source: ScalarType,
        to target: ScalarType
    ) {
        guard !loss.isEmpty else { return }
        tensors.withLock {
            $0[ExactString(name), default: TensorLoss(source: source, target: target, elementCount: shape.elementCount)]
                .losses[region] = loss
        }
    }

    /// A note or two for each tensor that lost something, sorted by name.
    package var notes: [LossNote] {
        tensors.withLock { tensors in
            tensors.sorted { $0.key < $1.key }.flatMap { name, tensor -> [LossNote] in
                let total = tensor.losses.values.reduce(ConversionLoss(), +)
                var notes: [LossNote] = []
                if total.overflowCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .overflow(
                                count: total.overflowCount, of: tensor.elementCount, greatest: total.greatestOverflow,
                                to: tensor.target)))
                }
                if total.changeCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .change(
                                count: total.changeCount, of: tensor.elementCount, from: tensor.source,
                                to: tensor.target)))
                }
                return notes
            }
        }
    }
}

extension CairnError {
    /// How many losses an error spells out.
    private static let shownLossCount = 20

    /// What is thrown where notes of loss are errors: one line with what would not be carried over as it was.
    ///
    /// - Parameter notes: At least one sentence.
    package static func refusing(losses notes: [String], file: String? = nil) -> CairnError {
        let rest = notes.count - min(notes.count, shownLossCount)
        let shown = notes.prefix(shownLossCount).joined(separator: "; ") + (rest > 0 ? "; and \(rest) more" : "")
        return CairnError(
            .unsupported, "not everything can be carried over as it is, and notes of loss are errors here: \(shown)",
            .init(file: file, advice: "leave these out, or put up with the notes"))
    }
}

/// What of a nested state a format does not keep, by the paths of what is changed.
///
/// That the whole is an `OrderedDict` goes without saying: a checkpoint is a mapping in every format.
package struct StateLosses {
    /// How much a format keeps.
    package enum Format {
        /// Names and plain values.
        case flat
        /// Dictionaries, and lists that hold more than values, are entered; what is left in them is kept as PyTorch's files keep
        /// it. `isTerminal`: whether a list of these stays one value.
        case flattened(isTerminal: (StateNode) -> Bool)
        /// What `torch.load` with `weights_only` takes.
        case torch
    }

    private var changes: [(what: String, paths: [String])] = []
    private var positions: [String: Int] = [:]

    /// - Parameter root: The state as it was.
    package init(of root: StateNode, in format: Format) {
        switch format {
        case .torch: addTorch(root, at: [])
        case .flat:
            guard let members = Self.mapping(root) else {
                note("is not a dictionary, and becomes the tensors and values of one", "the state")
                addFlat(root, at: [])
                return
            }
            addKeys(members, at: [])
            for member in members {
                if member.node.hasTensor, !Self.isTensor(member.node) {
                    note("nests tensors, which is kept in their names alone", member.key.text)
                }
                addFlat(member.node, at: [member.key.text])
            }
        case .flattened(let isTerminal):
            guard let members = Self.mapping(root) else {
                note("is not a dictionary, and becomes the entry of one", "the state")
                addFlattened(root, at: [], isTerminal)
                return
            }
            addKeys(members, at: [])
            for member in members { addFlattened(member.node, at: [member.key.text], isTerminal) }
        }
        if case .typed(let kind, _) = root, kind != .orderedDictionary, !Self.isKept(kind, in: format) { lose(kind, at: []) }
    }

    /// A sentence for each kind of change, with all its paths.
    package var notes: [String] {
        changes.map { what, paths in
            NameList.text(paths) + ": " + what
        }
    }

    private static func isKept(_ kind: StateKind, in format: Format) -> Bool {
        if case .torch = format { return isTorch(kind) }
        return false
    }

    /// The entries of a state whose kind goes without saying.
    private static func mapping(_ root: StateNode) -> [StateNode.Member]? { root.members }

    private static func isTensor(_ node: StateNode) -> Bool {
        switch node {
        case .tensor: true
        case .typed(_, let inner): isTensor(inner)
        default: false
        }
    }

    // MARK: Walks

    private mutating func addFlat(_ node: StateNode, at path: [String]) {
        switch node {
        case .tensor, .value: break
        case .list(let nodes): addElements(nodes, at: path) { $0.addFlat($1, at: $2) }
        case .tuple(let nodes):
            note("was a tuple and becomes a list", path)
            addElements(nodes, at: path) { $0.addFlat($1, at: $2) }
        case .dictionary(let members):
            addKeys(members, at: path)
            addMembers(members, at: path) { $0.addFlat($1, at: $2) }
        case .typed(let kind, let inner):
            lose(kind, at: path)
            addFlat(inner, at: path)
        }
    }

    private mutating func addFlattened(_ node: StateNode, at path: [String], _ isTerminal: (StateNode) -> Bool) {
        switch node {
        case .tensor, .value: break
        case .dictionary(let members):
            addKeys(members, at: path)
            addMembers(members, at: path) { $0.addFlattened($1, at: $2, isTerminal) }
        case .list(let nodes) where !nodes.allSatisfy(isTerminal):
            addElements(nodes, at: path) { $0.addFlattened($1, at: $2, isTerminal) }
        case .tuple(let nodes) where node.hasTensor:
            note("was a tuple and becomes a list", path)
            addElements(nodes, at: path) { $0.addFlattened($1, at: $2, isTerminal) }
        case .typed(let kind, let inner) where inner.hasTensor || inner.members?.isEmpty == false:
            lose(kind, at: path)
            addFlattened(inner, at: path, isTerminal)
        case .list, .tuple, .typed: addTorch(node, at: path)
        }
    }

    private mutating func addTorch(_ node: StateNode, at path: [String]) {
        switch node {
        case .tensor, .value: break
        case .list(let nodes), .tuple(let nodes): addElements(nodes, at: path) { $0.addTorch($1, at: $2) }
        case .dictionary(let members): addMembers(members, at: path) { $0.addTorch($1, at: $2) }
        case .typed(let kind, let inner):
            if !Self.isTorch(kind) { lose(kind, at: path) }
            addTorch(inner, at: path)
        }
    }

    private mutating func addElements(
        _ nodes: [StateNode], at path: [String], _ add: (inout StateLosses, StateNode, [String]) -> Void
    ) {
        for (index, node) in nodes.enumerated() { add(&self, node, path + [String(index)]) }
    }

    private mutating func addMembers(
        _ members: [StateNode.Member], at path: [String], _ add: (inout StateLosses, StateNode, [String]) -> Void
    ) {
        for member in members { add(&self, member.node, path + [member.key.text]) }
    }

    // MARK: Notes

    private mutating func addKeys(_ members: [StateNode.Member], at path: [String]) {
        for member in members {
            if case .name = member.key { continue }
            note("has keys that are not text, which become text", path.isEmpty ? [member.key.text] : path)
            if !path.isEmpty { return }
        }
    }

    /// Whether files that `torch.load` reads with `weights_only` hold it.
    package static func isTorch(_ kind: StateKind) -> Bool {
        switch kind {
        case .set, .orderedDictionary, .counter, .byteArray, .complex, .bigInteger, .size, .scalarType, .layout, .device,
            .parameter, .gradient, .sparseTensor, .quantizedTensor, .metaTensor:
            true
        case .frozenSet, .defaultDictionary, .deque, .path, .constant, .subclass, .packedTensor, .nestedTensor, .array,
            .arrayScalar,
            .arrayType:
            false
        }
    }

    private mutating func lose(_ kind: StateKind, at path: [String]) {
        let what =
            switch kind {
            case .set, .deque: "becomes a list"
            case .frozenSet: "becomes a set or a list"
            case .orderedDictionary, .defaultDictionary, .counter: "becomes a plain dictionary"
            case .byteArray: "becomes bytes"
            case .complex: "becomes a list of its two parts"
            case .bigInteger: "becomes its digits as text"
            case .size: "becomes a list"
            case .path, .scalarType, .layout, .device, .constant, .arrayType: "becomes text"
            case .parameter, .gradient, .subclass: "becomes a plain tensor"
            case .sparseTensor, .quantizedTensor, .packedTensor, .metaTensor, .nestedTensor: "becomes a dictionary of its parts"
            case .array: "becomes a tensor or a list"
            case .arrayScalar: "becomes a plain number"
            }
        let article = "AEIOUaeiou".contains(kind.name.prefix(1)) ? "an" : "a"
        note("was \(article) \(kind.name) and \(what)", path)
    }

    private mutating func note(_ what: String, _ path: [String]) {
        note(what, path.isEmpty ? "the state" : path.joined(separator: "."))
    }

    private mutating func note(_ what: String, _ path: String) {
        if let position = positions[what] {
            if changes[position].paths.last != path { changes[position].paths.append(path) }
        } else {
            positions[what] = changes.count
            changes.append((what, [path]))
        }
    }
}
