import Cairn
import CairnMerge

/// The weights of stored checkpoints, as inputs of merges: views of mapped files.
enum StoredWeights {
    static func input(_ store: CheckpointStore, step: Int) throws -> MergeInput {
        let reader = try store.open(step: step)
        return MergeInput(
            try SelectedReader(reader, include: ["model.*"]),
            parent: Lineage.Parent(step: step, saveID: reader.manifest.saveID, source: store.name))
    }

    /// How merges that are evaluated once and thrown away are computed.
    static var options: MergeOptions {
        var options = MergeOptions()
        options.mapped = true
        return options
    }

    /// Whether all tensors of the inputs are read where the files are mapped.
    static func areMapped(_ inputs: [MergeInput]) throws -> Bool {
        try inputs.allSatisfy { input in
            try input.reader.tensors.allSatisfy { try input.reader.mapped($0.name) != nil }
        }
    }
}
