public import CairnBase
public import CairnCheckpoint
public import CairnLayout
import CairnTensor

/// Writes a checkpoint of any format into a store as the ranks of a mesh would have saved it under given layouts.
///
/// Driven by the source: every tensor is read once from its beginning to its end, slab by slab, and each slab's parts go
/// to the files of the ranks that write them. Memory is bounded by the buffers, whatever the sizes and however many ranks.
///
/// ```swift
/// let mesh = try DeviceMesh(["dp": 4, "tp": 2])
/// let tensors = reader.tensors.map { … PlacedTensor(name: $0.name, …) }
/// try Resharder(reading: reader, tensors: tensors).write(to: CheckpointStore(path: "runs/kjv-8"), step: 400)
/// ```
public struct Resharder: Sendable {
    /// How a checkpoint is written.
    public struct Options: Sendable {
        /// What any save may be told. Lineage is noted if none is given. `progress` is told of
        /// bytes that were written.
        public var save = SaveOptions()
        /// The bytes of the two buffers that the source is read into.
        package var bufferByteCount = 64 << 20
        /// The most rank files that are open at once. With more ranks the source is gone through once for each batch of
        /// them, each time reading only what that batch writes.
        package var openFileLimit = 256
        /// Whether numbers that a conversion loses, which ``Resharder/losses`` tells, are an error and nothing is committed.
        public var strict = false

        public init() {}
    }

    let reader: any CheckpointReader
    let plan: WritePlan
    let ledger = LossLedger()

    /// What conversions have lost so far.
    public var losses: [LossNote] { (reader.losses ?? []) + ledger.notes }

    /// The tensors that are written, sorted by name.
    package var tensors: [PlacedTensor] { plan.tensors }

    /// Plans to write `tensors`, whose bytes `reader` has. What else it has is left out, but for values and ties. Values of
    /// single ranks go to the ranks at the same coordinates; ``skippedEntries`` names them where there are none.
    ///
    /// Tensors are converted to the type that they are given. Where the layout of a tensor is partial, the source has the
    /// partial values stacked along a first dimension.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a tensor that the source lacks, ``CairnError/Code/mismatch`` for one of
    ///   another shape, ``CairnError/Code/unsupported`` for types that do not convert; what layouts that do not fit or
    ///   that differ in their number of ranks throw. All name the tensor.
    public init(reading reader: any CheckpointReader, tensors: [PlacedTensor]) throws(CairnError) {
        self.reader = reader
        // The order of a checkpoint's tensors, by which its readers know who wrote what.
        plan = try WritePlan(tensors.sorted { ExactString($0.name) < ExactString($1.name) })
        for (index, tensor) in plan.tensors.enumerated() {
            let source = try reader.description(of: tensor.name)
            guard source.shape == plan.storedShape(ofTensor: index) else {
                throw CairnError(
                    .mismatch, "the checkpoint has the tensor in another shape",
                    .init(
                        file: reader.source, tensor: tensor.name, expected: "\(plan.storedShape(ofTensor: index))",
                        found: "\(source.shape)"))
            }
            guard ScalarConversion.isSupported(from: source.scalarType, to: tensor.scalarType) else {
                throw CairnError(
                    .unsupported, "\(source.scalarType) does not convert to \(tensor.scalarType)",
                    .init(file: reader.source, tensor: tensor.name))
            }
        }
    }

    /// The bytes of tensors that are written.
    package var byteCount: Int {
        plan.tensors.indices.reduce(0) { sum, index in
            let count = plan.storedShape(ofTensor: index).elementCount
            return sum + (plan.tensors[index].scalarType.byteCount(elementCount: count) ?? 0)
        }
    }

    /// Writes the checkpoint of `step`. When it returns, the checkpoint is durable.
    ///
    /// - Returns: The manifest that committed it.
    /// - Throws: ``CairnError/Code/alreadyExists`` unless the options allow to replace; the source's and the storage's
    ///   errors; what the options' `progress` throws. Nothing remains then that looks like a checkpoint.
    @discardableResult
    public func write(to store: CheckpointStore, step: Int, options: Options = Options()) throws -> Manifest {
        var save = options.save
        if save.lineage == nil { save.lineage = lineage }
        let session = try store.beginSave(step: step, rankCount: plan.rankCount, options: save)
        do {
            session.setPlaced(plan.tensors)
            try session.setGlobal(values: reader.values, ties: ties)
            let (ofRanks, ranks) = try rankValues()
            if options.strict, !ranks.isComplete, let note = ofRanks.lossNote { throw CairnError.refusing(losses: [note]) }
            let half = max(options.bufferByteCount / 2, 1 << 16)
            let buffers = (SlabBuffer(byteCount: half), SlabBuffer(byteCount: half))
            let width = max(1, options.openFileLimit)
            for first in stride(from: 0, to: plan.rankCount, by: width) {
                let batch = try RankBatch(
                    self, session, ranks: first..<min(plan.rankCount, first + width), save
                ) { rank in
                    let source = ranks.source(of: rank)
                    return ofRanks.first { $0.rank == source }?.values ?? []
                }
                try batch.write(through: buffers)
            }
            if options.strict, case let losses = losses.map(\.description), !losses.isEmpty {
                throw CairnError.refusing(losses: losses)
            }
            return try session.commit()
        } catch {
            session.cancel()
            throw error
        }
    }

    /// What the source has and the written checkpoint will lack, a sentence each: values of single ranks where the ranks are
    /// others afterwards.
    ///
    /// - Throws: What a damaged file of a rank throws.
    public var skippedEntries: [String] {
        get throws(CairnError) {
            let (ofRanks, ranks) = try rankValues()
            return ranks.isComplete ? [] : [ofRanks.lossNote].compactMap(\.self)
        }
    }

    /// What ranks of the source had alone, and who stands where they stood.
    private func rankValues() throws(CairnError) -> ([RankValues], RankCorrespondence) {
        let ofRanks = try reader.rankValues()
        var meshes: [DeviceMesh] = []
        for tensor in plan.tensors where !meshes.contains(tensor.layout.mesh) { meshes.append(tensor.layout.mesh) }
        let count = ofRanks.first?.rankCount ?? plan.rankCount
        let known = reader.identity?.meshes ?? ofRanks.compactMap(\.mesh)
        return (ofRanks, RankCorrespondence(from: known, of: count, to: meshes, of: plan.rankCount))
    }

    private var lineage: Lineage {
        Lineage(
            operation: "reshard",
            parents: [.init(step: reader.identity?.step, saveID: reader.identity?.saveID, source: reader.source)])
    }

    /// The names that are ties to a written tensor.
    private var ties: [(name: String, target: String)] {
        let written = Set(plan.tensors.map { ExactString($0.name) })
        return reader.tensors.compactMap { tensor in
            guard let target = tensor.tiedTo, written.contains(ExactString(target)),
                !written.contains(ExactString(tensor.name))
            else { return nil }
            return (tensor.name, target)
        }
    }
}
