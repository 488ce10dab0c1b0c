internal import COpenBLAS
internal import CTrainKernels
import Cairn
import CairnBase
import CairnTensor

/// The training that snapshots are measured beside: the state of a GPT-2 of 124 million parameters (BF16 weights, 32-bit
/// masters and two moments), AdamW over all of it, and a fixed amount of computing before.
///
/// `@unchecked Sendable`: one step at a time, whose threads each work on parameters of their own.
final class AdamWork: @unchecked Sendable {
    private struct Parameter {
        var name: String
        var weight: Tensor
        var master: Tensor
        var first: Tensor
        var second: Tensor
        var gradient: Tensor
    }

    private static let matrixWidth = 768
    private var parameters: UnsafeMutableBufferPointer<Parameter>
    /// Where updates of shared tensors go.
    let pool: BufferPool
    private var stepCount = 0
    private var matrices: [Float]
    /// How many matrix products make the computing of a step.
    private var productCount = 1

    init(scale: Int = 1) throws {
        let pool = BufferPool(idleLimit: 8 << 30)
        let shapes = Self.shapes(width: Self.matrixWidth / scale)
        var parameters: [Parameter] = []
        for (index, (name, shape)) in shapes.enumerated() {
            func tensor(_ scale: Float) throws -> Tensor {
                try Tensor(.f32, shape, pool: pool) { bytes in
                    bytes.withUnsafeMutableBytes { memory in
                        for (offset, _) in memory.bindMemory(to: Float.self).enumerated() {
                            let word = UInt32(truncatingIfNeeded: offset &+ index &* 7919) &* 2_654_435_761
                            memory.storeBytes(
                                of: (Float(word >> 8) / Float(1 << 24) - 0.5) * scale, toByteOffset: 4 * offset,
                                as: Float.self)
                        }
                    }
                }
            }
            let master = try tensor(0.04)
            parameters.append(
                Parameter(
                    name: name, weight: try master.converted(to: .bf16, pool: pool), master: master, first: try tensor(1e-3),
                    second: try Tensor(zeros: .f32, shape, pool: pool), gradient: try tensor(1e-3)))
        }
        self.parameters = .allocate(capacity: parameters.count)
        _ = self.parameters.initialize(from: parameters)
        self.pool = pool
        matrices = [Float](repeating: 0.5, count: 3 * Self.matrixWidth * Self.matrixWidth)
        openblas_set_num_threads(1)
    }

    deinit {
        parameters.deinitialize()
        parameters.deallocate()
    }

    /// The state, by reference.
    var state: TrainingState {
        var state = TrainingState()
        for parameter in parameters {
            state.set(parameter.weight, for: "model." + parameter.name)
            state.set(parameter.master, for: "master." + parameter.name)
            state.set(parameter.first, for: "exp_avg." + parameter.name)
            state.set(parameter.second, for: "exp_avg_sq." + parameter.name)
        }
        state.set(.integer(Int64(stepCount)), for: "step")
        return state
    }

    /// The names in the order of updates.
    var order: [String] {
        parameters.flatMap { parameter in
            ["model.", "master.", "exp_avg.", "exp_avg_sq."].map { $0 + parameter.name }
        }
    }

    var byteCount: Int {
        parameters.reduce(0) { $0 + $1.weight.byteCount + 3 * $1.master.byteCount }
    }

    /// Takes and touches as much memory as a snapshot could ever need.
    func reserve() {
        let sizes = parameters.flatMap { [$0.weight, $0.master, $0.first, $0.second].map(\.byteCount) }
        pool.reserve(byteCounts: sizes)
    }

    /// Makes the computing of a step last about so long.
    func calibrate(seconds: Double) {
        productCount = 8
        compute()
        let start = ContinuousClock.now
        compute()
        let once = (ContinuousClock.now - start) / .seconds(1) / 8
        productCount = max(1, Int(seconds / once))
    }

    /// A fixed number of matrix products on this thread: what stands for forward and backward.
    ///
    /// - Returns: The seconds of each product.
    @discardableResult
    func compute() -> [Double] {
        let n = Int32(Self.matrixWidth)
        return matrices.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return [] }
            let size = Self.matrixWidth * Self.matrixWidth
            return (0..<productCount).map { _ in
                let start = ContinuousClock.now
                cblas_sgemm(
                    CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1e-3, base, n, base + size, n, 0, base + 2 * size, n)
                return (ContinuousClock.now - start) / .seconds(1)
            }
        }
    }

    /// AdamW on two threads, as an optimizer of this package does it.
    func update() throws {
        stepCount += 1
        let constants = cairn_adamw_step(
            gradient_scale: 1, learning_rate: 1e-4, weight_decay: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8,
            correction1: 0.5, correction2_root: 0.5)
        try ThreadPool.shared.forEach(parameters.count, width: 2) { index in
            try Self.update(&self.parameters[index], constants, self.pool)
        }
    }

    private static func update(_ parameter: inout Parameter, _ constants: cairn_adamw_step, _ pool: BufferPool) throws {
        let gradient = parameter.gradient
        gradient.withElements(as: Float.self) { gradient in
            parameter.master.rewrite(as: Float.self, pool: pool) { oldMaster, newMaster in
                parameter.first.rewrite(as: Float.self, pool: pool) { oldFirst, newFirst in
                    parameter.second.rewrite(as: Float.self, pool: pool) { oldSecond, newSecond in
                        cairn_adamw(
                            gradient.count, constants, gradient.baseAddress, oldMaster.baseAddress, newMaster.baseAddress,
                            oldFirst.baseAddress, newFirst.baseAddress, oldSecond.baseAddress, newSecond.baseAddress)
                    }
                }
            }
        }
        let master = parameter.master
        try parameter.weight.overwrite(pool: pool) { bytes in
            try ScalarConversion.convert(master.bytes, from: .f32, into: &bytes, to: .bf16)
        }
    }

    private static func shapes(width d: Int) -> [(String, Shape)] {
        var shapes: [(String, Shape)] = [("wte.weight", [50257, d]), ("wpe.weight", [1024, d])]
        for layer in 0..<12 {
            let p = "h.\(layer)."
            shapes += [
                (p + "ln_1.weight", [d]), (p + "ln_1.bias", [d]), (p + "attn.c_attn.weight", [d, 3 * d]),
                (p + "attn.c_attn.bias", [3 * d]), (p + "attn.c_proj.weight", [d, d]), (p + "attn.c_proj.bias", [d]),
                (p + "ln_2.weight", [d]), (p + "ln_2.bias", [d]), (p + "mlp.c_fc.weight", [d, 4 * d]),
                (p + "mlp.c_fc.bias", [4 * d]), (p + "mlp.c_proj.weight", [4 * d, d]), (p + "mlp.c_proj.bias", [d]),
            ]
        }
        return shapes + [("ln_f.weight", [d]), ("ln_f.bias", [d])]
    }
}
