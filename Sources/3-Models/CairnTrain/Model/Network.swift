internal import CairnBase
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
    /// How much ``PassResult/balanceSum`` adds to the loss that is minimised.
    var balanceWeight: Double { get }
    /// Buffers for passes over up to `exampleCapacity` examples.
    func makeWorker(exampleCapacity: Int, pool: BufferPool) -> any NetworkWorker
}

extension Network {
    package var balanceWeight: Double { 0 }
}

/// Computes passes, one at a time, in buffers of its own.
package protocol NetworkWorker: AnyObject, Sendable {
    /// Runs the examples forward and, given `gradients`, backward.
    ///
    /// - Parameters:
    ///   - gradients: what the gradients of the summed loss, with ``Network/balanceWeight`` times the summed balance,
    ///     times `scale` are added to; parallel to the parameters.
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
    /// How unevenly experts share the tokens: summed over targets and layers of experts, 1 each where they share
    /// evenly.
    package var balanceSum = 0.0

    package init() {}

    /// Adds what another pass found out.
    mutating func add(_ other: PassResult) {
        lossSum += other.lossSum
        correctCount += other.correctCount
        balanceSum += other.balanceSum
    }
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

/// Buffers that live as long as this object.
///
/// `@unchecked Sendable`: the owner of the arena orders the access.
final class Arena: @unchecked Sendable {
    private var storages: [TensorStorage] = []
    private let pool: BufferPool

    init(pool: BufferPool) { self.pool = pool }

    /// Zeroed room for `count` numbers.
    func floats(_ count: Int) -> UnsafeMutablePointer<Float> { zeros(count, 0) }

    /// Zeroed room for `count` whole numbers.
    func integers(_ count: Int) -> UnsafeMutablePointer<Int32> { zeros(count, 0) }

    private func zeros<Element: BitwiseCopyable>(_ count: Int, _ zero: Element) -> UnsafeMutablePointer<Element> {
        let storage = TensorStorage(byteCount: max(1, count) * MemoryLayout<Element>.stride, pool: pool)
        storages.append(storage)
        let start = storage.base.bindMemory(to: Element.self, capacity: max(1, count))
        start.update(repeating: zero, count: max(1, count))
        return start
    }
}

/// A float buffer that grows with what is asked of it.
///
/// `@unchecked Sendable`: its owner orders the access.
final class GrowingFloats: @unchecked Sendable {
    private var storage: TensorStorage
    private var capacity: Int
    private let pool: BufferPool

    init(_ count: Int, pool: BufferPool) {
        capacity = max(1, count)
        self.pool = pool
        storage = TensorStorage(byteCount: capacity * MemoryLayout<Float>.stride, pool: pool)
    }

    /// Where it is.
    var start: UnsafeMutablePointer<Float> { storage.base.assumingMemoryBound(to: Float.self) }

    /// Makes room for `count` numbers, by half more than that where there was too little; what it held is lost then.
    func reserve(_ count: Int) -> UnsafeMutablePointer<Float> {
        if count > capacity {
            capacity = count + count / 2
            storage = TensorStorage(byteCount: capacity * MemoryLayout<Float>.stride, pool: pool)
        }
        return start
    }
}

/// What a parameter is in the network: optimizers treat the kinds differently.
package enum ParameterRole: Sendable, Hashable {
    /// A matrix [outputs, inputs] between hidden layers; `blocks` matrices on top of each other when fused.
    case hidden(blocks: Int)
    /// A table or a matrix next to the input or the output.
    case edge
    /// Biases and norm weights.
    case vector
}

/// How a parameter starts.
package enum Initialization: Sendable, Hashable {
    case zeros
    case ones
    case normal(deviation: Float)

    /// The first values of a parameter.
    func values(_ count: Int, _ random: inout PhiloxGenerator) -> [Float] {
        switch self {
        case .zeros: [Float](repeating: 0, count: count)
        case .ones: [Float](repeating: 1, count: count)
        case .normal(let deviation): (0..<count).map { _ in Float(random.normal()) * deviation }
        }
    }

    /// Leaves the generator as ``values(_:_:)`` does.
    func skip(_ count: Int, _ random: inout PhiloxGenerator) {
        if case .normal = self { random.skipNormals(count) }
    }
}

/// How the ranks of tensor parallelism share a parameter.
package struct TensorSharding: Sendable, Hashable {
    /// The dimension that is sharded.
    package var dimension: Int
    /// How many equal sections the dimension has, each sharded on its own: three of a fused QKV.
    package var sections = 1
    /// What is never cut, in elements of the dimension: a head.
    package var unit = 1

    init(dimension: Int, sections: Int = 1, unit: Int = 1) {
        self.dimension = dimension
        self.sections = sections
        self.unit = unit
    }
}

/// Name, shape, place and start of one parameter, or of a rank's part of it.
package struct ParameterSpecification: Sendable, Hashable {
    package let name: String
    package let shape: Shape
    package let role: ParameterRole
    package let initialization: Initialization
    /// `nil` where every rank of tensor parallelism has all of it.
    package let sharding: TensorSharding?
    /// Which expert of its layer it belongs to, if to one.
    package let expert: Int?

    package init(
        _ name: String, _ shape: Shape, _ role: ParameterRole, _ initialization: Initialization,
        _ sharding: TensorSharding? = nil, expert: Int? = nil
    ) {
        self.name = name
        self.shape = shape
        self.role = role
        self.initialization = initialization
        self.sharding = sharding
        self.expert = expert
    }
}

/// Loops whose iterations write to places of their own.
enum ParallelLoop {
    /// Calls `body` once for each index below `count`, on as many threads as there are processors.
    static func run(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        do {
            try ThreadPool.shared.forEach(count, width: ThreadPool.processorCount, body)
        } catch {
            preconditionFailure("a body that cannot throw threw \(error)")
        }
    }
}

/// An array that several threads write to.
///
/// `@unchecked Sendable`: each index belongs to one iteration of the loop that uses it.
struct SharedElements<Element>: @unchecked Sendable {
    let elements: UnsafeMutableBufferPointer<Element>

    init(_ elements: UnsafeMutableBufferPointer<Element>) { self.elements = elements }

    subscript(index: Int) -> Element {
        get { elements[index] }
        nonmutating _modify { yield &elements[index] }
    }
}
