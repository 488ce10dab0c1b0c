package import CairnTensor

/// A model's structure: its parameters, and workers that compute with them.
package protocol Network: Sendable {
    /// The parameters in the order in which passes get them.
    var parameters: [ParameterSpecification] { get }
    /// Names that stand for a parameter of another name.
    var ties: [(name: String, target: String)] { get }
    /// The structure as a value to store.
    var value: Value { get }
    /// How many numbers an example makes the model predict.
    var targetsPerExample: Int { get }
    /// Buffers for passes over up to `exampleCapacity` examples.
    func makeWorker(exampleCapacity: Int, pool: BufferPool) -> any NetworkWorker
}

/// Computes passes, one at a time, in buffers of its own.
package protocol NetworkWorker: AnyObject, Sendable {
    /// Runs the examples forward and, given `gradients`, backward.
    ///
    /// - Parameters:
    ///   - gradients: what the gradients of the summed loss times `scale` are added to; parallel to the parameters.
    func run(
        _ examples: Examples, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) -> PassResult
}

/// What a pass found out.
package struct PassResult: Sendable, Hashable {
    /// The sum of the cross-entropies, in nats.
    package var lossSum = 0.0
    /// How many targets were the most likely.
    package var correctCount: Int64 = 0

    package init() {}
}

/// The parameters by address, in the network's order.
///
/// `@unchecked Sendable`: read only while the owner keeps the memory.
package struct ParameterPointers: @unchecked Sendable {
    let pointers: [UnsafePointer<Float>]

    package init(_ pointers: [UnsafePointer<Float>]) { self.pointers = pointers }

    subscript(index: Int) -> UnsafePointer<Float> { pointers[index] }
}

/// Gradients by address, in the network's order.
///
/// `@unchecked Sendable`: one thread writes at a time.
package struct GradientPointers: @unchecked Sendable {
    let pointers: [UnsafeMutablePointer<Float>]

    package init(_ pointers: [UnsafeMutablePointer<Float>]) { self.pointers = pointers }

    subscript(index: Int) -> UnsafeMutablePointer<Float> { pointers[index] }
}

/// Float buffers that live as long as this object.
///
/// `@unchecked Sendable`: whoever owns the arena orders the access.
final class Arena: @unchecked Sendable {
    private var storages: [TensorStorage] = []
    private let pool: BufferPool

    init(pool: BufferPool) { self.pool = pool }

    /// Zeroed room for `count` numbers.
    func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
        let storage = TensorStorage(byteCount: max(1, count) * MemoryLayout<Float>.stride, pool: pool)
        storages.append(storage)
        let start = storage.base.assumingMemoryBound(to: Float.self)
        start.update(repeating: 0, count: max(1, count))
        return start
    }
}
