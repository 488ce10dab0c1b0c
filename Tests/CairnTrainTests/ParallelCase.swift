import CairnCommunication
import CairnLayout
import CairnTensor
import CairnTrain
import Testing

/// A small model, and how its training is sharded.
struct ParallelCase: Sendable, CustomTestStringConvertible {
    var mesh: String
    var zero = false
    var optimizer = OptimizerConfiguration.adamW()
    var precision = WeightPrecision.float32
    var batchSize = 8
    var microBatches: Int?
    var schedule = PipelineSchedule.oneForwardOneBackward
    var stageLayers: [Int]?
    /// Untied, with biases, layer norm, learned positions, SwiGLU and apart queries, keys and values; else the opposite
    /// of each.
    var hasOtherOptions = false
    /// In every second layer.
    var experts: Int?
    var average: WeightAverage?

    var testDescription: String {
        let parts = [
            mesh, zero ? "zero" : "", "\(optimizer.kind)", "\(precision)", "batch \(batchSize)",
            stageLayers.map { "stages \($0)" } ?? "", experts.map { "\($0) experts" } ?? "",
            hasOtherOptions ? "untied, biases" : "tied",
        ]
        return parts.filter { !$0.isEmpty }.joined(separator: " ")
    }

    /// Whether the exact gradient is zero: softmax ignores what is added to all scores of a row, and without rotation a
    /// key's bias is just that.
    func hasRoundingErrorsOnly(in name: String) -> Bool { name.hasSuffix("attention.key.bias") }

    func text() throws -> TextDataset { try TextDataset(text: TrainingCase.text, context: 16) }

    private func model(_ text: TextDataset) -> TransformerConfiguration {
        var model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 4, heads: 4, width: 16)
        model.feedForwardMultiple = 2
        model.experts = experts.map { ExpertConfiguration(count: $0, chosen: 2, width: 24, balance: 0.02) }
        guard hasOtherOptions else { return model }
        model.tiedEmbeddings = false
        model.biases = true
        model.norm = .layer
        model.positions = .learned
        model.feedForward = .swiglu
        model.fusedQKV = false
        return model
    }

    private var options: TrainingOptions {
        var options = TrainingOptions()
        options.batchSize = batchSize
        options.seed = 3
        options.precision = precision
        options.average = average
        return options
    }

    private var rates: LearningRateSchedule { LearningRateSchedule(peak: 3e-3, warmupSteps: 3) }

    func makeTrainer() throws -> Trainer {
        let text = try text()
        return try Trainer(
            transformer: model(text), text: text, optimizer: optimizer, schedule: rates, options: options)
    }

    func makeTrainer(_ communicator: any Communicator) throws -> ParallelTrainer {
        let text = try text()
        var parallel = ParallelConfiguration(mesh: try DeviceMesh(parsing: mesh), zero: zero)
        parallel.microBatches = microBatches
        parallel.schedule = schedule
        parallel.stageLayers = stageLayers
        return try ParallelTrainer(
            transformer: model(text), text: text, optimizer: optimizer, schedule: rates, options: options,
            parallel: parallel, communicator: communicator)
    }

    /// Calls `body` on every rank, each with a trainer.
    func run<Result: Sendable>(
        _ body: @escaping @Sendable (ParallelTrainer) throws -> Result
    ) throws -> [Result] {
        try ThreadCommunicator.run(ranks: DeviceMesh(parsing: mesh).rankCount) { communicator in
            try body(makeTrainer(communicator))
        }
    }
}

/// What a rank has after some steps.
struct RankState: Sendable {
    var losses: [Double]
    var norms: [Double]
    var values: [String: Value]
    var placed: [PlacedTensor]
    var local: [String: Tensor]
    var evaluation: Evaluation

    init(_ trainer: ParallelTrainer, steps: Int) throws {
        losses = []
        norms = []
        for _ in 0..<steps {
            let report = try trainer.step()
            losses.append(report.loss)
            norms.append(report.gradientNorm)
        }
        values = trainer.values
        placed = trainer.placedTensors
        local = trainer.localTensors
        evaluation = try trainer.evaluate(limit: 10)
    }
}

/// Puts whole tensors together from the ranks' parts, and takes them apart.
enum WholeTensor {
    /// Expects that every element is somewhere, has the same bits wherever it is, and that local tensors are as the
    /// layout says.
    static func join(_ placed: PlacedTensor, _ local: [[String: Tensor]]) throws -> Tensor {
        let sharded = try placed.sharded()
        try sharded.proveCoverage()
        let width = placed.scalarType.bitWidth / 8
        let empty = [UInt8](repeating: 0xFF, count: placed.shape.elementCount * width)
        var whole = empty
        for (rank, tensors) in local.enumerated() {
            let tensor = tensors[placed.name]
            #expect(tensor?.shape == sharded.localShape(ofRank: rank), "\(placed) on rank \(rank)")
            guard let tensor else { continue }
            #expect(tensor.scalarType == placed.scalarType)
            let filled = try Tensor(placed.scalarType, placed.shape) { span in
                span.withUnsafeMutableBytes { $0.copyBytes(from: empty) }
                for fragment in sharded.fragments(ofRank: rank) {
                    // Flat fragments have one dimension, and as many elements.
                    let piece = try tensor.copy(of: fragment.local).reshaped(fragment.global.shape)
                    try RegionCopy.copy(
                        placed.scalarType, from: piece.bytes, of: piece.shape, region: Region(whole: piece.shape),
                        into: &span, of: placed.shape, region: fragment.global)
                }
            }
            let part = filled.bytes.withUnsafeBytes { [UInt8]($0) }
            var differing = 0
            for start in stride(from: 0, to: part.count, by: width) {
                let range = start..<start + width
                guard part[range].contains(where: { $0 != 0xFF }) else { continue }
                if whole[range].contains(where: { $0 != 0xFF }), whole[range] != part[range] { differing += 1 }
                whole.replaceSubrange(range, with: part[range])
            }
            #expect(differing == 0, "\(placed.name): \(differing) elements of rank \(rank) differ from another replica")
        }
        return try Tensor(placed.scalarType, placed.shape, copying: whole.span.bytes)
    }

    static func part(_ placed: PlacedTensor, of whole: Tensor, rank: Int) throws -> Tensor? {
        let sharded = try placed.sharded()
        guard let shape = sharded.localShape(ofRank: rank) else { return nil }
        return try Tensor(placed.scalarType, shape) { bytes in
            for fragment in sharded.fragments(ofRank: rank) {
                let piece = try whole.copy(of: fragment.global).reshaped(fragment.local.shape)
                try RegionCopy.copy(
                    placed.scalarType, from: piece.bytes, of: piece.shape, region: Region(whole: piece.shape),
                    into: &bytes, of: shape, region: fragment.local)
            }
        }
    }

    /// The largest difference of two elements, and the largest element.
    static func difference(_ left: Tensor, _ right: Tensor) throws -> (largest: Float, scale: Float) {
        let left = try left.converted(to: .f32).elements(as: Float.self)
        let right = try right.converted(to: .f32).elements(as: Float.self)
        return (zip(left, right).map { abs($0 - $1) }.max() ?? 0, right.map { abs($0) }.max() ?? 0)
    }
}
