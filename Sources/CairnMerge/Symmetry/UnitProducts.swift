import CCairnKernels
import CairnBase

/// The scalar products of the units of two networks.
enum UnitProducts {
    /// Adds to `products`, `[count, count]`, the product of each unit of the first with each of the second.
    ///
    /// - Parameter length: The elements of a unit.
    static func add(
        _ first: [Float], _ second: [Float], count: Int, length: Int, to products: inout [Double]
    ) throws {
        // Rows of the first in stripes on several threads.
        let stripe = max(4, min(64, (count + 7) / 8 / 4 * 4))
        try products.withUnsafeMutableBufferPointer { products in
            let memory = SharedMemory(bytes: UnsafeMutableRawBufferPointer(products))
            try ThreadPool.shared.forEach((count + stripe - 1) / stripe) { index in
                let begin = index * stripe, rows = min(stripe, count - begin)
                first.withUnsafeBufferPointer { a in
                    second.withUnsafeBufferPointer { b in
                        guard let a = a.baseAddress, let target = memory.bytes.baseAddress else { return }
                        cairn_merge_products(
                            kernelLevel, a + begin * length, rows, b.baseAddress, count, length,
                            (target + begin * count * 8).assumingMemoryBound(to: Double.self))
                    }
                }
            }
        }
    }
}
