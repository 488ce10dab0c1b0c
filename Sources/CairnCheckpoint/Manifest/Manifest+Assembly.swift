import CairnBase

extension Manifest {
    /// The tensors that the fragments of all ranks' files make up, sorted by name. Whether they cover anything is for
    /// ``validate()`` to say.
    ///
    /// - Parameter contributions: The fragments of each file, in the order of ranks.
    /// - Throws: ``CairnError/Code/mismatch`` when ranks disagree about a tensor.
    static func tensors(of contributions: [[StoredFragment]]) throws(CairnError) -> [StoredTensor] {
        var tensors: [StoredTensor] = []
        var positions: [ExactString: Int] = [:]
        for (rank, fragments) in contributions.enumerated() {
            for fragment in fragments {
                let stored = Fragment(file: rank, region: fragment.region)
                guard let position = positions[ExactString(fragment.name)] else {
                    positions[ExactString(fragment.name)] = tensors.count
                    tensors.append(StoredTensor(
                        name: fragment.name, scalarType: fragment.scalarType, shape: fragment.globalShape,
                        fragments: [stored]))
                    continue
                }
                let (type, shape) = (tensors[position].scalarType, tensors[position].shape)
                guard shape == fragment.globalShape, type == fragment.scalarType else {
                    throw CairnError(
                        .mismatch, "the ranks disagree about a tensor, so nothing is committed",
                        .init(tensor: fragment.name, rank: rank, expected: "\(type)\(shape)",
                            found: "\(fragment.scalarType)\(fragment.globalShape)"))
                }
                tensors[position].fragments.append(stored)
            }
        }
        return tensors.sorted { ExactString($0.name) < ExactString($1.name) }
    }
}
