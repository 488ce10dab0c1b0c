import CairnBase
import CairnCheckpoint
import CairnTensor

/// Layers that Keras quantised: their kernels are 8-bit integers, and what they stand for is in scales beside them.
///
/// In `.keras` and `.weights.h5` variables have numbers: `layers/dense/vars/0` is the kernel (of int8 as it is shaped, of int4,
/// GPTQ and AWQ packed, two in a byte), the scale and perhaps a zero point and an order of the inputs come behind the bias. In
/// the old `.h5` they have names, `kernel` and `kernel_scale`. Source: Keras 3.15 `layers/core/dense.py`, `embedding.py`,
/// `einsum_dense.py`.
enum KerasQuantization {
    /// The note for a file with such layers, `nil` for one without.
    static func note(_ tensors: [TensorDescription]) -> String? {
        let names = Set(tensors.map { ExactString($0.name) })
        var scaled: Set<ExactString> = []
        for tensor in tensors where tensor.scalarType == .f32 {
            if let group = variables(tensor.name) { scaled.insert(ExactString(group)) }
        }
        let found = tensors.filter { tensor in
            guard tensor.scalarType == .i8 || tensor.scalarType == .u8, tensor.shape.dimensionCount >= 2 else { return false }
            if let group = variables(tensor.name) { return scaled.contains(ExactString(group)) }
            return ["kernel", "embeddings"].contains { tensor.name.hasSuffix("/" + $0) || tensor.name.hasSuffix("_" + $0) }
                && names.contains(ExactString(tensor.name + "_scale"))
        }.map(\.name)
        guard let first = found.first else { return nil }
        let shown = found.count == 1 ? "\(first) is" : "\(first) and \(found.count - 1) more are"
        return "\(shown) integers of quantised layers of Keras, which stand for weights only with the scales beside them "
            + "and may be packed, two in a byte: they are delivered as they are stored"
    }

    /// The group of numbered variables that a name is in.
    private static func variables(_ name: String) -> String? {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[parts.count - 2] == "vars", Int(parts[parts.count - 1]) != nil else { return nil }
        return parts.dropLast().joined(separator: "/")
    }
}
