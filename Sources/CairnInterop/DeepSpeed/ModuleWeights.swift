public import CairnBase
public import CairnCheckpoint
import CairnTensor

/// The weights of another checkpoint under the names that the model has for them, and nothing else: of DeepSpeed's names
/// `<name>.fp32`, or `<name>.param` of what is not trained, and `<name>.buffer`.
///
/// Tied weights stay tied. That is what DeepSpeed's own `zero_to_fp32.py` makes, in the types in which they are stored.
public struct ModuleWeights: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue] = []
    public let structure: StateNode? = nil
    /// Parallel to `tensors`.
    private let originalNames: [String]

    /// The states that are a weight, the one that counts first.
    private static let states = [".fp32", ".param", ".buffer"]

    /// - Throws: ``CairnError/Code/unsupported`` for a checkpoint that names its tensors otherwise.
    public init(_ base: any CheckpointReader) throws(CairnError) {
        self.base = base
        var viewed: [ViewedTensor] = []
        var found: Set<ExactString> = []
        for state in Self.states {
            for tensor in base.tensors where tensor.name.hasSuffix(state) {
                var description = tensor
                description.name = String(tensor.name.dropLast(state.count))
                guard !description.name.isEmpty, found.insert(ExactString(description.name)).inserted else { continue }
                viewed.append(ViewedTensor(description: description, originalName: tensor.name))
            }
        }
        guard !viewed.isEmpty else {
            throw CairnError(
                .unsupported, "no tensor is named as DeepSpeed names weights",
                .init(
                    file: base.source, expected: "NAME.fp32, NAME.param or NAME.buffer",
                    found: base.tensors.first?.name ?? "no tensors", advice: "choose tensors by --include"))
        }
        viewed = viewed.retied(below: base.tensors)
        tensors = viewed.map(\.description)
        originalNames = viewed.map(\.originalName)
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        originalNames[try tensors.requiredPosition(of: name, in: source)]
    }
}
