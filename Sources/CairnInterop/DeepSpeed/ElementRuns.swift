import CairnBase
import CairnTensor

/// Runs of elements of several tensors, one after the other: a flat buffer that was cut into partitions.
struct ElementRuns: Sendable {
    /// Consecutive elements of one tensor.
    struct Run: Sendable {
        /// One-dimensional.
        var content: any TensorContent
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
    mutating func append(_ content: any TensorContent) {
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
}

/// A tensor whose elements are runs of flat buffers.
struct FlatTensor: TensorContent {
    let scalarType: ScalarType
    let shape: Shape
    private let parts: [ElementRuns.Run]

    /// - Throws: ``CairnError/Code/malformed`` when the buffer does not have as many elements, of one type.
    init(_ buffer: ElementRuns, shape: Shape) throws(CairnError) {
        guard buffer.count == shape.elementCount else {
            throw CairnError(
                .malformed, "a tensor's flat parts have another size than its shape",
                .init(expected: "\(shape.elementCount) elements", found: "\(buffer.count)"))
        }
        let scalarType = buffer.runs.first?.content.scalarType ?? .f32
        guard buffer.runs.allSatisfy({ $0.content.scalarType == scalarType }), !scalarType.isPacked else {
            throw CairnError(.malformed, "a tensor's flat parts differ in type")
        }
        self.scalarType = scalarType
        self.shape = shape
        parts = buffer.runs
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let width = scalarType.byteWidth ?? 1
        let runs = RegionRuns(of: region, in: shape)
        var written = 0
        for run in runs {
            var offset = 0
            for piece in parts {
                let from = max(run, offset), to = min(run + runs.runLength, offset + piece.count)
                if from < to {
                    var part = destination._mutatingExtracting(written..<written + (to - from) * width)
                    let source = try Region(
                        offsets: [piece.start + from - offset], shape: Shape(checking: [to - from]))
                    try piece.content.read(source, into: &part)
                    written += (to - from) * width
                }
                offset += piece.count
            }
        }
    }
}

/// A tensor of a file that is opened anew for every read: there may be more files than may be open at once.
struct ReopenedTensor: TensorContent {
    let scalarType: ScalarType
    let shape: Shape
    let open: @Sendable () throws(CairnError) -> any TensorContent

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try open().read(region, into: &destination)
    }
}
