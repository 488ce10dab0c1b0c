internal import CairnBase
public import CairnLayout

/// How the training of a transformer is sharded over ranks.
///
/// The axes of ``mesh`` say how: `dp` divides each batch, `ep` each batch and the experts, `tp` each matrix, `pp` the
/// layers. They stand in any order, and one that is missing has size 1.
public struct ParallelConfiguration: Sendable, Hashable {
    /// The ranks.
    public var mesh: DeviceMesh
    /// Whether the ranks of `dp` share the optimizer's state (ZeRO stage 1, Rajbhandari et al. 2020) instead of each
    /// keeping all of it: what is updated element by element as parts of one flat buffer, Muon's matrices whole, each
    /// with one rank.
    public var zero = false
    /// Into how many parts a rank of `dp` divides its examples, one behind the other in the pipeline; `nil` takes two
    /// for each stage of several.
    public var microBatches: Int?
    /// In which order a stage works on them.
    public var schedule = PipelineSchedule.oneForwardOneBackward
    /// The layers of each stage; `nil` divides them as evenly as can be, the larger numbers first.
    public var stageLayers: [Int]?

    public init(mesh: DeviceMesh, zero: Bool = false) {
        self.mesh = mesh
        self.zero = zero
    }
}

extension ParallelConfiguration {
    var dataCount: Int { mesh.size(of: AxisName.data) ?? 1 }
    var tensorCount: Int { mesh.size(of: AxisName.tensor) ?? 1 }
    var expertRankCount: Int { mesh.size(of: AxisName.experts) ?? 1 }
    var stageCount: Int { mesh.size(of: AxisName.pipeline) ?? 1 }

    /// How many micro-batches there are.
    var microBatchCount: Int { microBatches ?? (stageCount > 1 ? 2 * stageCount : 1) }

    /// The layers of each stage of a model that this fits.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when it does not.
    func stages(of model: TransformerConfiguration) throws(CairnError) -> [Range<Int>] {
        for axis in mesh.axes where !AxisName.all.contains(axis.name) {
            throw CairnError(
                .invalidArgument, "training knows nothing of the mesh axis \"\(axis.name)\"",
                .init(expected: AxisName.all.joined(separator: ", ")))
        }
        guard microBatchCount >= 1, microBatchCount <= Self.largestMicroBatchCount else {
            throw CairnError(
                .invalidArgument, "the number of micro-batches is out of range",
                .init(expected: "1 to \(Self.largestMicroBatchCount)", found: "\(microBatchCount)"))
        }
        let smallest = min(
            model.heads, model.vocabularySize, model.innerWidth, model.experts?.width ?? model.innerWidth)
        guard tensorCount <= smallest else {
            throw CairnError(
                .invalidArgument, "a matrix cannot be sharded over so many ranks",
                .init(
                    expected: "tp of at most \(smallest) for \(model.heads) heads, \(model.vocabularySize) tokens",
                    found: "\(tensorCount)"))
        }
        guard expertRankCount == 1 || expertRankCount <= model.experts?.count ?? 0 else {
            throw CairnError(
                .invalidArgument, "experts cannot be sharded over so many ranks",
                .init(expected: "ep of at most \(model.experts?.count ?? 1)", found: "\(expertRankCount)"))
        }
        let counts = stageLayers ?? (0..<stageCount).map {
            TransformerPart.balanced(model.layers, part: $0, of: stageCount).count
        }
        guard counts.count == stageCount, counts.allSatisfy({ (1...model.layers).contains($0) }),
            counts.reduce(0, +) == model.layers
        else {
            throw CairnError(
                .invalidArgument, "the layers do not make \(stageCount) pipeline stages",
                .init(expected: "\(model.layers) layers in all, at least one a stage", found: "\(counts)"))
        }
        var end = 0
        return counts.map { count in
            defer { end += count }
            return end..<end + count
        }
    }

    /// Two tags a micro-batch, of 32,768 that a communicator has.
    private static let largestMicroBatchCount = 1 << 14
}

/// The axes that training divides its work over.
enum AxisName {
    static let data = "dp"
    static let tensor = "tp"
    static let pipeline = "pp"
    static let experts = "ep"
    static let all = [data, experts, tensor, pipeline]
}
