import CairnCheckpoint
import CairnTensor

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
