/// In which order a pipeline stage works on micro-batches.
///
/// Every order goes backward through the micro-batches in the same sequence, so all give the same bits.
public enum PipelineSchedule: String, Sendable, Hashable, CaseIterable {
    /// Backward as soon as possible (PipeDream-flush, Narayanan et al. 2021): a stage keeps the activations of as many
    /// micro-batches as there are stages from it to the end.
    case oneForwardOneBackward = "1f1b"
    /// All forward, then all backward (GPipe, Huang et al. 2019): a stage keeps the activations of all micro-batches.
    case allForwardFirst = "gpipe"
}

/// One micro-batch through one stage, in one direction.
package struct PipelinePass: Sendable, Hashable {
    package let microBatch: Int
    package let isBackward: Bool

    package init(_ microBatch: Int, isBackward: Bool) {
        self.microBatch = microBatch
        self.isBackward = isBackward
    }
}

extension PipelineSchedule {
    /// How many micro-batches a stage has under way at most.
    package func slotCount(stage: Int, of stageCount: Int, microBatches: Int) -> Int {
        switch self {
        case .oneForwardOneBackward: min(microBatches, stageCount - stage)
        case .allForwardFirst: microBatches
        }
    }

    /// What a stage does, in order.
    package func passes(stage: Int, of stageCount: Int, microBatches: Int) -> [PipelinePass] {
        // So many are under way before the first one goes back.
        let ahead = slotCount(stage: stage, of: stageCount, microBatches: microBatches)
        var passes = (0..<ahead).map { PipelinePass($0, isBackward: false) }
        for microBatch in 0..<microBatches {
            passes.append(PipelinePass(microBatch, isBackward: true))
            if microBatch + ahead < microBatches {
                passes.append(PipelinePass(microBatch + ahead, isBackward: false))
            }
        }
        return passes
    }
}
