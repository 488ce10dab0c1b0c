import CairnBase
import CairnTensor

/// Where a checkpoint can be written to, tensor by tensor, with bounded memory.
///
/// The order of calls: ``begin(tensors:values:)``, then each tensor's bytes front to back in the order of `tensors` (tied
/// ones are not written), then ``finish()``. Without `finish` nothing remains that looks like a checkpoint.
public protocol CheckpointWriter: AnyObject {
    /// Announces everything that will come.
    ///
    /// - Returns: What the format cannot carry over, a sentence for each thing, to be shown to the user.
    func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String]

    /// The same for a state that was nested. A writer whose format holds no nested states says what of it is lost.
    ///
    /// - Parameter structure: How tensors and values belong together; `nil` when that is not known.
    func begin(tensors: [TensorDescription], values: [NamedValue], structure: StateNode?) throws -> [String]

    /// Takes values that single ranks of the source had alone, before `begin`.
    ///
    /// - Returns: Whether the target will hold them all. Most formats have no place for them.
    func carry(_ rankValues: [RankValues]) throws -> Bool

    /// Takes what tells this conversion from others, before `begin`: a writer that can go on where an interrupted one stopped
    /// does so only for the same.
    ///
    /// - Parameter identity: Asked for by such a writer alone.
    func continueInterrupted(as identity: () throws -> String) throws

    /// How many tensors, of those that have bytes of their own, an interrupted writer of the same has written already,
    /// known after `begin`: their bytes do not come again.
    var resumedTensorCount: Int { get }

    /// What else is to be said once it is finished, a sentence each: what had to be put out of the way.
    var closingNotes: [String] { get }

    /// Appends the next bytes: of the current tensor, and where there are more, of those that follow.
    func append(_ bytes: RawSpan) throws

    /// Makes the checkpoint whole, durable and visible.
    func finish() throws

    /// Gives up and removes what was written.
    func discard()
}

extension CheckpointWriter {
    public func continueInterrupted(as identity: () throws -> String) throws {}

    public var resumedTensorCount: Int { 0 }

    public func carry(_ rankValues: [RankValues]) throws -> Bool { false }

    public var closingNotes: [String] { [] }

    public func begin(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> [String] {
        let notes = try begin(tensors: tensors, values: values)
        return notes + (structure.map { StateLosses(of: $0, in: .flat).notes } ?? [])
    }
}
