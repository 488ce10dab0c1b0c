import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnTensor

/// Whether a checkpoint is what a delta applies to, as far as that is known without reading elements.
struct BaseCheck {
    private let delta: CheckpointDelta
    private let base: any CheckpointReader

    init(_ delta: CheckpointDelta, _ base: any CheckpointReader) {
        self.delta = delta
        self.base = base
    }

    /// Checks tensors and values.
    ///
    /// - Returns: The values of the result.
    /// - Throws: ``CairnError/Code/mismatch``, naming what differs.
    func resultValues() throws(CairnError) -> [NamedValue] {
        try checkTensors()
        try checkChain()
        return try checkedValues()
    }

    private func checkTensors() throws(CairnError) {
        var known = Set<ExactString>()
        let taken = delta.contents.tensors.filter { $0.baseDigest != nil }.map(\.description)
        for tensor in taken + delta.contents.removed {
            known.insert(ExactString(tensor.name))
            guard let position = base.tensors.position(of: tensor.name) else {
                throw refusal("has no such tensor", tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)")
            }
            let found = base.tensors[position]
            guard found.scalarType == tensor.scalarType, found.shape == tensor.shape else {
                throw refusal(
                    "has a tensor of another type or shape", tensor: tensor.name,
                    expected: "\(tensor.scalarType)\(tensor.shape)", found: "\(found.scalarType)\(found.shape)")
            }
        }
        for entry in delta.contents.tensors { if case .tied = entry.change { known.insert(ExactString(entry.description.name)) } }
        for tensor in base.tensors where !known.contains(ExactString(tensor.name)) {
            throw refusal("has a tensor that the delta does not know", tensor: tensor.name)
        }
    }

    /// What another delta makes has known digests.
    private func checkChain() throws(CairnError) {
        guard let base = base as? PatchedReader else { return }
        for entry in delta.contents.tensors {
            guard let expected = entry.baseDigest else { continue }
            let found = try base.entry(of: entry.description.name).entry.sha256
            guard found == expected else {
                throw CairnError(
                    .mismatch, "the delta does not follow the one before it: the tensor has other elements there",
                    .init(
                        file: delta.source, tensor: entry.description.name, expected: expected,
                        found: "\(found) after \(base.delta.source)", advice: "apply the deltas in the order of their steps"))
            }
        }
    }

    private func checkedValues() throws(CairnError) -> [NamedValue] {
        var expected: [ExactString: String] = [:]
        for value in delta.contents.baseValues { expected[ExactString(value.name)] = value.sha256 }
        let dropped = Set((delta.contents.removedValues + delta.contents.setValues.map(\.name)).map { ExactString($0) })
        var values = delta.contents.setValues
        for value in base.values {
            guard let digest = expected.removeValue(forKey: ExactString(value.name)) else {
                throw refusal("has a value that the delta does not know", tensor: value.name)
            }
            guard try CheckpointDigest.sha256(of: value.value) == digest else {
                throw refusal("has another value", tensor: value.name)
            }
            if !dropped.contains(ExactString(value.name)) { values.append(value) }
        }
        if let missing = expected.keys.min() { throw refusal("lacks a value", tensor: missing.string) }
        return values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    private func refusal(_ what: String, tensor: String, expected: String? = nil, found: String? = nil) -> CairnError {
        let origin = delta.contents.base
        let applies = [origin.source, origin.step.map { "step \($0)" }].compactMap(\.self).joined(separator: ", ")
        return CairnError(
            .mismatch, "the delta does not apply to this checkpoint, which \(what)",
            .init(
                file: base.source, tensor: tensor, expected: expected, found: found,
                advice: applies.isEmpty ? nil : "\(delta.source) applies to \(applies)"))
    }
}
