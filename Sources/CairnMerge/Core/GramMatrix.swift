import CCairnKernels
import CairnTensor

/// The scalar products of tensors with each other, or of their differences from a base: all that methods on the sphere
/// need to know to be sums with coefficients.
struct GramMatrix: Sendable {
    let count: Int
    private var products: [Double]

    /// Reads every tensor once, whatever their number.
    init(of operands: [MergeOperand], from base: MergeOperand?, isDouble: Bool, sweep: TensorSweep) throws {
        let count = operands.count
        let parts = try sweep.map { chunk in
            let origin = try base?.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) } ?? .none
            let byteCount = chunk.count * (isDouble ? 8 : 4)
            var values: [UnsafeMutableRawBufferPointer] = []
            for (index, operand) in operands.enumerated() {
                let x = try operand.elements(of: chunk.region) { chunk.workspace.buffer(1, byteCount: $0) }
                let difference = chunk.workspace.buffer(2 + index, byteCount: byteCount)
                cairn_merge_difference(
                    kernelLevel, isDouble ? 1 : 0, x, origin, difference.baseAddress, chunk.count)
                values.append(difference)
            }
            var products: [Double] = []
            for row in 0..<count {
                for column in 0...row {
                    products.append(
                        cairn_merge_dot(
                            kernelLevel, isDouble ? 1 : 0, values[row].baseAddress, values[column].baseAddress,
                            chunk.count))
                }
            }
            return products
        }
        self.count = count
        products = [Double](repeating: 0, count: count * (count + 1) / 2)
        for part in parts {
            for index in products.indices { products[index] += part[index] }
        }
    }

    subscript(row: Int, column: Int) -> Double {
        let (low, high) = row < column ? (row, column) : (column, row)
        return products[high * (high + 1) / 2 + low]
    }

    func norm(_ index: Int) -> Double { self[index, index].squareRoot() }

    /// The scalar product of two sums of the tensors, given by their coefficients.
    func product(_ left: [Double], _ right: [Double]) -> Double {
        var sum = 0.0
        for (row, one) in left.enumerated() where one != 0 {
            for (column, other) in right.enumerated() where other != 0 { sum += one * other * self[row, column] }
        }
        return sum
    }

    /// The norm of a sum of the tensors.
    func norm(of coefficients: [Double]) -> Double { max(0, product(coefficients, coefficients)).squareRoot() }
}

/// The instructions that the kernels may use: all that there are.
let kernelLevel = Int32(CAIRN_LEVEL_HIGHEST)
