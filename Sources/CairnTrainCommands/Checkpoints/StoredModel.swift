import Cairn
import CairnTrain

/// The model of a checkpoint, to be evaluated.
enum StoredModel {
    /// Opens a run's folder, `RUN@STEP`, or a safetensors file that keeps a run's values.
    static func open(_ path: String) throws -> any CheckpointReader {
        path.hasSuffix(".safetensors") ? try SafeTensorsReader(path: path) : try StoreArgument(path).open()
    }

    /// A trainer with the checkpoint's weights.
    static func trainer(_ reader: any CheckpointReader, text: [UInt8]) throws -> Trainer {
        let values = Dictionary(reader.values.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        let trainer = try Trainer(evaluating: values, text: text)
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
        try trainer.replaceParameters(weights)
        return trainer
    }
}
