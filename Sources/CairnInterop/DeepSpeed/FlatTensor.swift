import CairnBase
import CairnTensor

/// Runs of elements that follow each other, from several places: a flat buffer that was cut into partitions.
struct FlatBuffer: Sendable {
    /// Elements of one place that become part of something.
    struct Piece: Sendable {
        /// One-dimensional.
        var content: any TensorContent
        /// The first element in the content.
        var start: Int
        var count: Int
    }

    private(set) var pieces: [Piece] = []
    /// How many elements there are.
    private(set) var count = 0

    init() {}

    /// Buffers that follow each other.
    init(joining buffers: [FlatBuffer]) {
        for piece in buffers.lazy.flatMap(\.pieces) { append(piece) }
    }

    /// Appends all of a one-dimensional tensor.
    mutating func append(_ content: any TensorContent) {
        append(Piece(content: content, start: 0, count: content.shape.elementCount))
    }

    mutating func append(_ piece: Piece) {
        guard piece.count > 0 else { return }
        pieces.append(piece)
        count += piece.count
    }

    /// Part of the buffer; `nil` when it reaches beyond the end.
    func slice(_ start: Int, _ count: Int) -> FlatBuffer? {
        guard start >= 0, count >= 0, let end = start.adding(checked: count), end <= self.count else { return nil }
        var result = FlatBuffer()
        var offset = 0
        for piece in pieces {
            let from = max(start, offset), to = min(end, offset + piece.count)
            if from < to {
                result.append(
                    Piece(content: piece.content, start: piece.start + from - offset, count: to - from))
            }
            offset += piece.count
        }
        return result
    }
}

/// A tensor whose elements are runs of flat buffers.
struct FlatTensor: TensorContent {
    let scalarType: ScalarType
    let shape: Shape
    private let pieces: [FlatBuffer.Piece]

    /// - Throws: ``CairnError/Code/malformed`` when the buffer does not have as many elements, of one type.
    init(_ buffer: FlatBuffer, shape: Shape) throws(CairnError) {
        guard buffer.count == shape.elementCount else {
            throw CairnError(
                .malformed, "a tensor's flat parts have another size than its shape",
                .init(expected: "\(shape.elementCount) elements", found: "\(buffer.count)"))
        }
        let scalarType = buffer.pieces.first?.content.scalarType ?? .f32
        guard buffer.pieces.allSatisfy({ $0.content.scalarType == scalarType }), !scalarType.isPacked else {
            throw CairnError(.malformed, "a tensor's flat parts differ in type")
        }
        self.scalarType = scalarType
        self.shape = shape
        pieces = buffer.pieces
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let width = scalarType.byteWidth ?? 1
        let runs = RegionRuns(of: region, in: shape)
        var written = 0
        for run in runs {
            var offset = 0
            for piece in pieces {
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
