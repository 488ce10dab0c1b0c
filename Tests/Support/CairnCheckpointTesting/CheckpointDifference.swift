import CairnBase
package import CairnCheckpoint

/// The first of names, types, shapes, ties, values and bytes in which two checkpoints differ; `nil` if none does.
package func difference(_ one: any CheckpointReader, _ other: any CheckpointReader) throws -> String? {
    let names = one.tensors.map { ExactString($0.name) }, others = other.tensors.map { ExactString($0.name) }
    guard names == others else {
        let only = Set(names).symmetricDifference(others).sorted()
        return "names differ: \(only.prefix(6).map(\.string))"
    }
    for (first, second) in zip(one.tensors, other.tensors) where first != second { return "\(first) and \(second)" }
    guard one.values == other.values else { return "values differ" }
    for tensor in one.tensors where try one.tensor(tensor.name) != other.tensor(tensor.name) {
        return "\(tensor.name): bytes differ"
    }
    return nil
}
