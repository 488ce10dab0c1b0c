package import Cairn
package import CairnCheckpoint
package import CairnTensor
import CairnTrain

/// A checkpoint of a store as it is typed: `runs/kjv` for the newest, `runs/kjv@400` for one.
struct StoreArgument: Sendable, Hashable {
    var folder: String
    /// `nil` for the newest.
    var step: Int?

    init(_ text: String) {
        folder = text
        guard let at = text.lastIndex(of: "@") else { return }
        let number = text[text.index(after: at)...]
        guard let step = Int(number), step >= 0 || number == "latest" else {
            if number == "latest" { folder = String(text[..<at]) }
            return
        }
        folder = String(text[..<at])
        self.step = step
    }

    /// Opens the checkpoint.
    func open() throws(CairnError) -> CairnReader {
        let store = CheckpointStore(path: folder)
        if let step { return try store.open(step: step) }
        let (newest, skipped) = try store.newestUsable()
        guard let newest else { throw store.noneUsable(skipped) }
        return try store.open(step: newest)
    }
}

/// The store of a run that does not exist yet.
enum NewStore {
    /// - Throws: ``CairnError/Code/alreadyExists`` when there are checkpoints already.
    static func open(_ folder: String) throws(CairnError) -> CheckpointStore {
        let store = CheckpointStore(path: folder)
        guard try store.steps().isEmpty else {
            throw CairnError(
                .alreadyExists, "the folder holds checkpoints already", .init(file: folder, advice: "choose another"))
        }
        return store
    }
}

/// The model of a checkpoint, to be evaluated.
enum StoredModel {
    /// Opens a run's folder, `RUN@STEP`, or a safetensors file that keeps a run's values.
    static func open(_ path: String) throws -> any CheckpointReader {
        path.hasSuffix(".safetensors") ? try SafeTensorsReader(path: path) : try StoreArgument(path).open()
    }

    /// A trainer with the checkpoint's weights.
    static func trainer(_ reader: any CheckpointReader, text: [UInt8]) throws -> Trainer {
        let values = reader.values.byName
        let trainer = try Trainer(evaluating: values, text: text)
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
        try trainer.replaceParameters(weights)
        return trainer
    }
}

/// A checkpoint with some tensors more, and other values: a view that is read where its base is.
package struct ExtendedReader: CheckpointView {
    /// A tensor that is added.
    struct Addition: Sendable {
        var tensor: Tensor
        /// The name of an addition or a tensor of the base whose bytes it shares.
        var tiedTo: String?
    }

    package let tensors: [TensorDescription]
    package let values: [NamedValue]
    package let base: any CheckpointReader
    private let additions: [String: Addition]

    /// - Parameters:
    ///   - additions: under names that the base does not have.
    ///   - values: in place of those of the base.
    init(
        _ base: any CheckpointReader, adding additions: [String: Addition] = [:], values: [String: Value]
    ) {
        self.base = base
        self.additions = additions
        let added = additions.map { name, addition in
            TensorDescription(
                name: name, scalarType: addition.tensor.scalarType, shape: addition.tensor.shape,
                tiedTo: addition.tiedTo)
        }
        tensors = (base.tensors + added).sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        self.values = values.map { NamedValue(name: $0.key, value: $0.value) }
            .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    package func baseName(of name: String) throws(CairnError) -> String? { additions[name] == nil ? name : nil }

    package func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard let tensor = additions[name]?.tensor else {
            return try base.read(name, region: region, into: &destination)
        }
        do throws(CairnError) {
            try HeldView(tensor).read(region, into: &destination)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }
}
