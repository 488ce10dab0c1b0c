import CairnBase
import CairnCheckpoint
import CairnTensor

/// What one model rank holds: the states of its parameters, united over the data ranks.
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
    private(set) var entries: [Key: any TensorContent] = [:]
    /// The keys of the entries, in the order in which they came.
    private(set) var keys: [Key] = []

    /// The shapes of the parameters that the optimizer has.
    var shapes: [ExactString: Shape] {
        Dictionary(groups.joined().map { (ExactString($0.name), $0.shape) }, uniquingKeysWith: { first, _ in first })
    }

    /// Adds a state unless it is there.
    mutating func add(_ content: any TensorContent, _ parameter: String, _ state: String) {
        let key = Key(parameter, state)
        guard entries[key] == nil else { return }
        entries[key] = content
        keys.append(key)
    }
}
