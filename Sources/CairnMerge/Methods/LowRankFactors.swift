import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A low-rank update whose matrices are found and fit the weight.
struct BoundUpdate: Sendable {
    let down: MergeOperand
    let up: MergeOperand
    let scale: Double
    let isTransposed: Bool

    /// - Throws: ``CairnError/Code/mismatch`` for matrices that do not fit the weight.
    init(
        _ update: LowRankUpdate, down: MergeOperand, up: MergeOperand, weight: TensorDescription
    ) throws(CairnError) {
        self.down = down
        self.up = up
        scale = update.scale
        isTransposed = update.isTransposed
        let (a, b, w) = (down.description.shape, up.description.shape, weight.shape)
        let fits = a.dimensionCount == 2 && b.dimensionCount == 2 && w.dimensionCount == 2 && a[0] == b[1]
            && [b[0], a[1]] == (update.isTransposed ? [w[1], w[0]] : [w[0], w[1]])
        guard fits, down.kernelType != nil, up.kernelType != nil else {
            throw CairnError(
                .mismatch, "the matrices of a low-rank update do not fit the weight",
                .init(
                    file: down.reader.source, tensor: weight.name, expected: "\(w)",
                    found: "\(up.description.name) \(b) times \(down.description.name) \(a)"))
        }
    }
}

/// The matrices of a low-rank update in memory: small, whatever the size of the weight.
///
/// `@unchecked Sendable`: nobody writes after the initializer.
final class LowRankFactors: @unchecked Sendable {
    /// `[rank, columns of the weight]`
    private let right: Tensor
    /// `[rows of the weight, rank]`, in double precision.
    private let left: [Double]
    private let rank: Int
    private let scale: Double

    init(_ update: BoundUpdate, isDouble: Bool) throws {
        let working: ScalarType = isDouble ? .f64 : .f32
        rank = update.down.description.shape[0]
        scale = update.scale
        let columns = update.isTransposed ? update.up : update.down
        let rows = update.isTransposed ? update.down : update.up
        let columnFactor = try columns.reader.tensor(columns.description.name).converted(to: working)
        right = update.isTransposed ? try columnFactor.transposed() : columnFactor
        let rowFactor = try rows.reader.tensor(rows.description.name).converted(to: .f64)
        left = try (update.isTransposed ? rowFactor.transposed() : rowFactor).elements(as: Double.self)
    }

    /// Adds the product's part in `region` of the weight to `sums`, row-major.
    func add(to sums: UnsafeMutableRawPointer, _ region: Region, isDouble: Bool) {
        let width = isDouble ? 8 : 4
        let type = right.scalarType.kernelNumber ?? 0
        let columns = region.shape[1]
        for row in 0..<region.shape[0] {
            let target = sums + row * columns * width
            for index in 0..<rank {
                let source = right.storage.base + right.byteOffset
                    + (index * right.shape[1] + region.offsets[1]) * width
                cairn_merge_add(
                    kernelLevel, isDouble ? 1 : 0, cairn_elements(bytes: UnsafeRawPointer(source), type: type),
                    scale * left[(region.offsets[0] + row) * rank + index], 0, target, columns)
            }
        }
    }
}

extension Tensor {
    /// The transpose of a matrix.
    func transposed() throws -> Tensor {
        let (rows, columns, width) = (shape[0], shape[1], scalarType.byteWidth ?? 1)
        return try Tensor(scalarType, [columns, rows]) { destination in
            destination.withUnsafeMutableBytes { to in
                bytes.withUnsafeBytes { from in
                    for row in 0..<rows {
                        for column in 0..<columns {
                            let (source, target) = ((row * columns + column) * width, (column * rows + row) * width)
                            for byte in 0..<width { to[target + byte] = from[source + byte] }
                        }
                    }
                }
            }
        }
    }
}
