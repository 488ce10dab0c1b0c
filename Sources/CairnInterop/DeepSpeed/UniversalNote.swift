import CairnBase
import CairnCheckpoint
import CairnTensor

/// What Cairn notes in the model's file of a universal checkpoint, so that it can be read back as it was.
struct UniversalNote {
    /// The note's place in the file.
    static let key: StateKey = "cairn"
    static let copies = "copies"
    static let defaults = "defaults"

    /// Names of weights that are the single-precision ones again, for loaders that want a whole module.
    private let copied: Set<ExactString>
    /// Keys that DeepSpeed wants to see and that the source did not have.
    private let added: Set<ExactString>
    /// Whether there is a note.
    let exists: Bool

    init(_ model: DeepSpeedState) {
        copied = Set(model.texts(Self.key, StateKey(Self.copies)).map { ExactString($0) })
        added = Set(model.texts(Self.key, StateKey(Self.defaults)).map { ExactString($0) })
        exists = model.contents.leaves.contains { $0.path.first == Self.key }
    }

    func isCopy(_ name: String) -> Bool { copied.contains(ExactString(name)) }

    func hides(_ key: String) -> Bool { added.contains(ExactString(key)) }
}
