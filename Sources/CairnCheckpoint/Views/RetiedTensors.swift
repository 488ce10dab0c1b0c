import CairnBase
import CairnTensor

/// A tensor of a view, and what it is in the checkpoint below.
package struct ViewedTensor {
    /// What the view lists.
    package var description: TensorDescription
    /// Its name below.
    package var originalName: String

    package init(description: TensorDescription, originalName: String) {
        self.description = description
        self.originalName = originalName
    }
}

/// What tensors of a view have in common that can be one.
private struct TensorIdentity: Hashable {
    var root: ExactString
    var scalarType: ScalarType
}

extension [ViewedTensor] {
    /// The tensors sorted by name, and tied anew: those that are one tensor below and have one type here stay one.
    ///
    /// The name that keeps the bytes is the one that does below, or if it is gone the first that is left.
    ///
    /// - Parameter below: The tensors of the checkpoint below.
    package func retied(below: [TensorDescription]) -> [ViewedTensor] {
        func identity(_ tensor: ViewedTensor) -> TensorIdentity {
            let original = below.position(of: tensor.originalName).map { below[$0] }
            return TensorIdentity(
                root: ExactString(original?.tiedTo ?? tensor.originalName), scalarType: tensor.description.scalarType)
        }
        var tensors = sorted { ExactString($0.description.name) < ExactString($1.description.name) }
        var kept: [TensorIdentity: String] = [:]
        for tensor in tensors {
            let identity = identity(tensor)
            if kept[identity] == nil || ExactString(tensor.originalName) == identity.root {
                kept[identity] = tensor.description.name
            }
        }
        for index in tensors.indices {
            let name = kept[identity(tensors[index])]
            let isKept = name.map { ExactString($0) == ExactString(tensors[index].description.name) } ?? true
            tensors[index].description.tiedTo = isKept ? nil : name
        }
        return tensors
    }
}
