internal import CTrainKernels
internal import CairnBase
internal import CairnCommunication
internal import CairnLayout
internal import CairnTensor

/// Brings the singular values of a matrix near 1 by five steps of a quintic Newton-Schulz iteration with the coefficients
/// of Jordan et al., "Muon" (2024), in single precision.
package struct Orthogonalization {
    private let rows: Int
    private let columns: Int
    private let arena: Arena
    /// Takes the matrix, [rows, columns].
    let matrix: UnsafeMutablePointer<Float>
    private let turned: UnsafeMutablePointer<Float>
    private let other: UnsafeMutablePointer<Float>
    private let gram: UnsafeMutablePointer<Float>
    private let polynomial: UnsafeMutablePointer<Float>

    init(rows: Int, columns: Int, pool: BufferPool) {
        let arena = Arena(pool: pool)
        let small = min(rows, columns)
        self.rows = rows
        self.columns = columns
        self.arena = arena
        matrix = arena.floats(rows * columns)
        turned = arena.floats(rows * columns)
        other = arena.floats(rows * columns)
        gram = arena.floats(small * small)
        polynomial = arena.floats(small * small)
    }

    /// The orthogonalised ``matrix``, which is overwritten.
    ///
    /// - Parameter norm: the Frobenius norm of the matrix.
    func orthogonalize(norm: Float) -> UnsafePointer<Float> {
        let count = rows * columns
        let small = min(rows, columns)
        let large = max(rows, columns)
        let scale = 1 / (norm + 1e-7)
        var current = turned
        var next = other
        if rows > columns {
            transpose(matrix, rows: rows, columns: columns, into: current)
        } else {
            current.update(from: matrix, count: count)
        }
        cairn_scale_add(count, scale, current, 0, current, current)
        for _ in 0..<5 {
            MatrixProduct.multiply(
                current, stride: large, current, stride: large, secondTransposed: true, into: gram, stride: small,
                rows: small, columns: small, inner: large)
            polynomial.update(from: gram, count: small * small)
            MatrixProduct.multiply(
                gram, stride: small, gram, stride: small, into: polynomial, stride: small,
                rows: small, columns: small, inner: small, scale: 2.0315, keep: -4.7750)
            next.update(from: current, count: count)
            MatrixProduct.multiply(
                polynomial, stride: small, current, stride: large, into: next, stride: large,
                rows: small, columns: large, inner: small, keep: 3.4445)
            swap(&current, &next)
        }
        guard rows > columns else { return UnsafePointer(current) }
        transpose(current, rows: columns, columns: rows, into: matrix)
        return UnsafePointer(matrix)
    }

    /// The orthogonalised `elements`, row-major.
    package static func orthogonalize(_ elements: [Float], rows: Int, columns: Int) -> [Float] {
        let work = Orthogonalization(rows: rows, columns: columns, pool: BufferPool(idleLimit: 0))
        work.matrix.update(from: elements, count: rows * columns)
        let norm = elements.reduce(0) { $0 + $1 * $1 }.squareRoot()
        defer { withExtendedLifetime(work) {} }
        return Array(UnsafeBufferPointer(start: work.orthogonalize(norm: norm), count: rows * columns))
    }

    private func transpose(
        _ source: UnsafePointer<Float>, rows: Int, columns: Int, into destination: UnsafeMutablePointer<Float>
    ) {
        for row in 0..<rows {
            for column in 0..<columns { destination[column * rows + row] = source[row * columns + column] }
        }
    }
}

/// A matrix that the ranks of tensor parallelism hold parts of, for an update that needs the whole: Muon's.
///
/// Each rank gathers the parts, orthogonalises the whole and keeps its part of the result. All do the same work, so all
/// get the same bits.
struct ShardedMatrix: Sendable {
    private let shape: Shape
    private let blocks: Int
    private let communicator: any Communicator
    /// Where the elements of each rank's part stand in the whole.
    private let fragments: [[LocalFragment]]
    private let partShapes: [Shape]

    init(_ parameter: PlacementPlan.Parameter, blocks: Int, _ tensor: RankGroups.Axis) throws(CairnError) {
        shape = parameter.specification.shape
        let sharded = try ShardedShape(parameter.layout, shape: shape)
        self.blocks = blocks
        communicator = tensor.communicator
        fragments = tensor.ranks.map { sharded.fragments(ofRank: $0) }
        partShapes = tensor.ranks.map { sharded.localShape(ofRank: $0) ?? [0, 0] }
    }

    /// Orthogonalises each block of the matrix of which every rank has its own `part`, in place.
    func orthogonalize(_ part: UnsafeMutablePointer<Float>, pool: BufferPool) throws(CairnError) {
        let arena = Arena(pool: pool)
        defer { withExtendedLifetime(arena) {} }
        let width = MemoryLayout<Float>.stride
        let counts = partShapes.map(\.elementCount)
        let starts = counts.indices.map { counts[..<$0].reduce(0, +) }
        let own = communicator.rank
        let count = shape.elementCount
        let parts = arena.floats(count)
        let whole = arena.floats(count)
        (parts + starts[own]).update(from: part, count: counts[own])
        try communicator.allGather(
            UnsafeMutableRawBufferPointer(start: parts, count: count * width), counts: counts.map { $0 * width })
        var wholeSpan = MutableRawSpan(_unsafeStart: whole, byteCount: count * width)
        for rank in fragments.indices {
            let source = RawSpan(_unsafeStart: parts + starts[rank], byteCount: counts[rank] * width)
            for fragment in fragments[rank] {
                try RegionCopy.copy(
                    .f32, from: source, of: partShapes[rank], region: fragment.local, into: &wholeSpan, of: shape,
                    region: fragment.global)
            }
        }
        orthogonalizeBlocks(whole, pool)
        var partSpan = MutableRawSpan(_unsafeStart: part, byteCount: counts[own] * width)
        for fragment in fragments[own] {
            try RegionCopy.copy(
                .f32, from: RawSpan(_unsafeStart: whole, byteCount: count * width), of: shape,
                region: fragment.global, into: &partSpan, of: partShapes[own], region: fragment.local)
        }
    }

    private func orthogonalizeBlocks(_ whole: UnsafeMutablePointer<Float>, _ pool: BufferPool) {
        let rows = shape[0] / blocks
        let count = rows * shape[1]
        let work = Orthogonalization(rows: rows, columns: shape[1], pool: pool)
        defer { withExtendedLifetime(work) {} }
        for block in 0..<blocks {
            let matrix = whole + block * count
            work.matrix.update(from: matrix, count: count)
            let norm = Float(cairn_squares(count, matrix).squareRoot())
            matrix.update(from: work.orthogonalize(norm: norm), count: count)
        }
    }
}

extension ParameterUpdate {
    /// One step of Muon for this rank's part of a matrix.
    mutating func apply(
        _ step: Step, gradient: UnsafePointer<Float>, to weight: inout Tensor, of matrix: ShardedMatrix,
        pool: BufferPool
    ) throws {
        let step = step.counted(by: name)
        let count = weight.shape.elementCount
        let arena = Arena(pool: pool)
        defer { withExtendedLifetime(arena) {} }
        let update = arena.floats(count)
        first.rewrite(as: Float.self, pool: pool) { old, new in
            guard let old = old.baseAddress, let new = new.baseAddress else { return }
            _ = cairn_muon_momentum(
                count, step.gradientScale, Float(step.configuration.momentum), gradient, old, new, update)
        }
        try matrix.orthogonalize(update, pool: pool)
        let rate = Float(step.learningRate)
        let keep = 1 - rate * decay(step.configuration)
        let factor = -rate * matrix.growth
        func change(_ tensor: inout Tensor) {
            tensor.rewrite(as: Float.self, pool: pool) { old, new in
                guard let old = old.baseAddress, let new = new.baseAddress else { return }
                cairn_scale_add(count, keep, old, factor, update, new)
            }
        }
        if var exact = master {
            // So that `exact` is the only reference and is updated in place.
            master = nil
            change(&exact)
            weight = try exact.converted(to: weight.scalarType, pool: pool)
            master = exact
        } else {
            change(&weight)
        }
        follow(step, weight, pool: pool)
    }
}

extension ShardedMatrix {
    /// Tall matrices need larger updates for the same change of the output.
    var growth: Float { max(1, Float(shape[0] / blocks) / Float(shape[1])).squareRoot() }
}
