import CairnBase
import CairnCheckpoint
import CairnTensor

/// Runs of elements of several tensors, one after the other: a flat buffer that was cut into partitions.
struct ElementRuns: Sendable {
    /// Consecutive elements of one tensor.
    struct Run: Sendable {
        /// One-dimensional.
        var content: any TensorView
        /// The first element in the content.
        var start: Int
        var count: Int
    }

    private(set) var runs: [Run] = []
    /// How many elements there are.
    private(set) var count = 0

    init() {}

    /// Buffers that follow each other.
    init(joining buffers: [ElementRuns]) {
        for run in buffers.lazy.flatMap(\.runs) { append(run) }
    }

    /// Appends all of a one-dimensional tensor.
    mutating func append(_ content: any TensorView) {
        append(Run(content: content, start: 0, count: content.shape.elementCount))
    }

    mutating func append(_ run: Run) {
        guard run.count > 0 else { return }
        runs.append(run)
        count += run.count
    }

    /// Part of the buffer; `nil` when it reaches beyond the end.
    func slice(_ start: Int, _ count: Int) -> ElementRuns? {
        guard start >= 0, count >= 0, let end = start.adding(checked: count), end <= self.count else { return nil }
        var result = ElementRuns()
        var offset = 0
        for run in runs {
            let from = max(start, offset), to = min(end, offset + run.count)
            if from < to {
                result.append(
                    Run(content: run.content, start: run.start + from - offset, count: to - from))
            }
            offset += run.count
        }
        return result
    }

    /// The elements as a tensor.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when there are not as many elements as the shape has, of one type.
    func tensor(_ shape: Shape) throws(CairnError) -> any TensorView {
        guard count == shape.elementCount else {
            throw CairnError(
                .malformed, "a tensor's flat parts have another size than its shape",
                .init(expected: "\(shape.elementCount) elements", found: "\(count)"))
        }
        let scalarType = runs.first?.content.scalarType ?? .f32
        guard runs.allSatisfy({ $0.content.scalarType == scalarType }), !scalarType.isPacked else {
            throw CairnError(.malformed, "a tensor's flat parts differ in type")
        }
        var flat: [FlatMapping.Run] = []
        var end = 0
        for run in runs {
            flat.append(.init(end..<end + run.count, start: run.start))
            end += run.count
        }
        return MappedView(runs.map(\.content), FlatMapping(shape: shape, runs: flat), scalarType)
    }
}
