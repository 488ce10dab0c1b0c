import CairnBase
import CairnCheckpoint
import CairnTensor

/// The `module` of a model file: weights, buffers, and which weight is another one under a second name.
struct DeepSpeedModule {
    /// The weights that are no copies, in the order of the file.
    private(set) var weights: [(name: String, content: any TensorView)] = []
    private(set) var buffers: [(name: String, content: any TensorView)] = []
    /// Names of weights and the names of those that they are.
    private(set) var shared: [(name: String, kept: String)] = []

    init(_ model: DeepSpeedState) {
        let bufferNames = Set(model.texts("buffer_names").map { ExactString($0) })
        var kept: [ExactString: String] = [:]
        for (path, value) in model.contents.leaves where path.count == 2 && path[0] == "shared_params" {
            guard case .string(let target) = value else { continue }
            kept[ExactString(path[1].text)] = target
            shared.append((path[1].text, target))
        }
        var first: [TorchView: String] = [:]
        for tensor in model.contents.tensors where tensor.path.first == "module" && tensor.path.count > 1 {
            let name = StateNames.joined(Array(tensor.path.dropFirst()))
            if bufferNames.contains(ExactString(name)) {
                buffers.append((name, tensor.content))
                continue
            }
            guard kept[ExactString(name)] == nil else { continue }
            if let view = tensor.view, view.shape.elementCount > 0 {
                if let original = first[view] {
                    shared.append((name, original))
                    continue
                }
                first[view] = name
            }
            weights.append((name, tensor.content))
        }
    }

    /// The shared weights as a value.
    var sharedValue: Value {
        .dictionary(Dictionary(shared.map { ($0.name, .string($0.kept)) }, uniquingKeysWith: { first, _ in first }))
    }
}
