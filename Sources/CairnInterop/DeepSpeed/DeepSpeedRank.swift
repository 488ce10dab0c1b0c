import CairnBase
import CairnCheckpoint
import CairnTensor

/// What one model rank holds: the states of its parameters, gathered over the data ranks.
///
/// Without tensor parallelism these are whole parameters, of the rank's pipeline stage.
struct DeepSpeedRank: Sendable {
    /// Which state of which parameter.
    struct Key: Hashable, Sendable {
        /// The parameter's name.
        var parameter: ExactString
        /// `fp32`, `exp_avg`, `param`, `buffer`, …
        var state: String

        init(_ parameter: String, _ state: String) {
            self.parameter = ExactString(parameter)
            self.state = state
        }

        /// The tensor's name.
        var name: String { parameter.string + "." + state }
    }

    /// The parameters that the optimizer has, by its groups.
    var groups: [[DeepSpeedParameter]] = []
    /// Second names of parameters and the names that they are kept under.
    private(set) var shared: [(name: String, kept: String)] = []
    private(set) var entries: [Key: any TensorView] = [:]
    /// The keys of the entries, in the order in which they came.
    private(set) var keys: [Key] = []

    /// The shapes of the parameters that the optimizer has.
    var shapes: [ExactString: Shape] {
        Dictionary(groups.joined().map { (ExactString($0.name), $0.shape) }, uniquingKeysWith: { first, _ in first })
    }

    /// Adds second names unless they are there.
    mutating func addShared(_ names: [(name: String, kept: String)]) {
        var known = Set(shared.map { ExactString($0.name) })
        shared += names.filter { known.insert(ExactString($0.name)).inserted }
    }

    /// The weights under their second names: those that the optimizer has, and those that the model computes with.
    /// What the optimizer keeps beside them belongs to the parameter, however many names it has.
    func tied() -> [(name: String, content: any TensorView, tiedTo: String)] {
        let kept = Dictionary(shared.map { (ExactString($0.name), $0.kept) }, uniquingKeysWith: { first, _ in first })
        return shared.flatMap { second -> [(name: String, content: any TensorView, tiedTo: String)] in
            var target = second.kept
            // A name that stands for another one in turn; a circle of them stands for nothing.
            for _ in 0..<shared.count {
                guard let next = kept[ExactString(target)] else { break }
                target = next
            }
            return ["fp32", "param"].compactMap { state in
                let (own, original) = (Key(second.name, state), Key(target, state))
                guard entries[own] == nil, let content = entries[original] else { return nil }
                return (own.name, content, original.name)
            }
        }
    }

    /// Adds a state unless it is there.
    mutating func add(_ content: any TensorView, _ parameter: String, _ state: String) {
        let key = Key(parameter, state)
        guard entries[key] == nil else { return }
        entries[key] = content
        keys.append(key)
    }
}
