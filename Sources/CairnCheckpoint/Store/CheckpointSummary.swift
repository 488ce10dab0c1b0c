public import CairnBase
import CairnStorage

/// One row of a store's listing.
public struct CheckpointSummary: Sendable {
    /// What the files of a step amount to.
    public enum State: Sendable {
        /// A checkpoint with a readable manifest.
        case committed
        /// Files without a manifest: a save that never ended, or is still going on.
        case debris
        /// There is a manifest, but it cannot be used.
        case damaged(CairnError)
        /// There is a manifest, and a restart found that the checkpoint cannot be used.
        case quarantined(Quarantine)
    }

    public var step: Int
    public var state: State
    /// The bytes of every file of the step.
    public var byteCount: Int
    /// The manifest, when it is readable.
    public var manifest: Manifest?
    /// Whether it is a checkpoint that nothing is known against.
    var isCommitted: Bool { if case .committed = state { true } else { false } }
    /// The bytes of the manifest and of the files that it names; 0 when it is not readable.
    var committedByteCount = 0
}

extension CheckpointStore {
    /// Every step that has files, in ascending order, with what its manifest says. Reads the manifests alone, and
    /// quarantines.
    public func list() throws(CairnError) -> [CheckpointSummary] {
        var sizes: [Int: Int] = [:]
        var manifestSizes: [Int: Int] = [:]
        var marked = Set<Int>()
        for entry in try storage.list("step-") {
            guard let step = StepName.step(ofKey: entry.key) else { continue }
            sizes[step, default: 0] += entry.byteCount
            if entry.key == StepName.prefix(step) + CairnReader.manifestName {
                manifestSizes[step] = entry.byteCount
            }
            if entry.key == StepName.prefix(step) + StepName.quarantineName { marked.insert(step) }
        }
        var summaries: [CheckpointSummary] = []
        for (step, byteCount) in sizes.sorted(by: { $0.key < $1.key }) {
            var summary = CheckpointSummary(step: step, state: .debris, byteCount: byteCount, manifest: nil)
            if let manifestByteCount = manifestSizes[step] {
                do throws(CairnError) {
                    let manifest = try open(step: step).manifest
                    summary.manifest = manifest
                    summary.committedByteCount = min(byteCount, manifest.byteCount + manifestByteCount)
                    summary.state = .committed
                } catch {
                    summary.state = .damaged(error)
                }
                if marked.contains(step), let quarantine = try quarantine(ofStep: step) {
                    summary.state = .quarantined(quarantine)
                }
            }
            summaries.append(summary)
        }
        return summaries
    }
}
