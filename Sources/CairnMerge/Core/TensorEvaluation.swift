import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor's method with everything known that takes a look at the whole tensors.
enum TensorEvaluation: Sendable {
    /// The bytes of an operand; all others must have the same.
    case copy(operand: Int)
    /// The sum of the operands times these, divided by a number.
    case combination([Double], divisor: Double?)
    /// Operand 0 and the task vectors of the others.
    case tasks([TaskState], TaskRule)
    /// Operand 0 and products of small matrices.
    case lowRank([LowRankFactors])
}

/// A task vector's part.
struct TaskState: Sendable {
    var sparsity: cairn_sparsity
    var weight: Double
}

/// How task vectors are put together.
struct TaskRule: Sendable {
    var takesMajority: Bool
    var normalizes: Bool
    var lambda: Double
}

/// A tensor of the result: what it is made of and how, found out when it is first needed.
final class PreparedTensor: Sendable {
    let description: TensorDescription
    let operands: [MergeOperand]
    let isDouble: Bool
    let method: MergeMethod
    /// Whether it is copied because its elements have no average.
    let copied: Int?
    let options: MergeOptions
    let workspaces: WorkspacePool
    let updates: [BoundUpdate]
    let ledger: LossLedger
    private let evaluation = Monitor<TensorEvaluation?>(nil)

    init(
        _ description: TensorDescription, operands: [MergeOperand], method: MergeMethod, updates: [BoundUpdate],
        copied: Int?, options: MergeOptions, workspaces: WorkspacePool, ledger: LossLedger
    ) {
        self.description = description
        self.operands = operands
        self.method = method
        self.updates = updates
        self.ledger = ledger
        self.copied = copied
        self.options = options
        self.workspaces = workspaces
        isDouble = switch options.accumulation {
        case .single: false
        case .double: true
        case .automatic: operands.contains { $0.description.scalarType == .f64 }
        }
    }

    /// What is known after a look at the operands, which happens once.
    func evaluated() throws -> TensorEvaluation {
        // Held while operands are read: whoever else wants the same tensor needs the result, and gives no thread away that
        // the reading could not do without.
        try evaluation.change { known in
            if let known { return known }
            let made = try prepare()
            known = made
            return made
        }
    }

    private func sweep(tensorCount: Int) -> TensorSweep {
        TensorSweep(
            shape: description.shape, chunkByteCount: chunkByteCount(tensorCount: tensorCount), options: options,
            workspaces: workspaces)
    }

    /// How many bytes of one tensor a chunk has when so many of them are held at once: together what a core's cache holds.
    func chunkByteCount(tensorCount: Int) -> Int {
        max(min(32 << 10, options.chunkByteCount), options.chunkByteCount * 4 / max(4, tensorCount))
    }

    private func prepare() throws -> TensorEvaluation {
        if let copied { return .copy(operand: copied) }
        switch method {
        case .passthrough(let scale):
            return scale.map { .combination([$0], divisor: nil) } ?? .copy(operand: 0)
        case .linear(let weights, let normalizes):
            return .combination(weights, divisor: normalizes ? sum(weights) : nil)
        case .slerp(let t):
            return .combination(SphericalMethods.slerp(try gram(), t: t), divisor: nil)
        case .multiSlerp(let weights, let normalizes, let hasBase, let epsilon):
            let coefficients = try SphericalMethods.multiSlerp(
                try gram(hasBase: hasBase), weights: weights, normalizes: normalizes, epsilon: epsilon)
            return .combination((hasBase ? [1 - coefficients.reduce(0, +)] : []) + coefficients, divisor: nil)
        case .karcher(let limit, let tolerance):
            return .combination(
                SphericalMethods.karcher(try gram(), iterationLimit: limit, tolerance: tolerance), divisor: nil)
        case .modelStock:
            let ratio = SphericalMethods.modelStockRatio(try gram(hasBase: true))
            let count = operands.count - 1
            return .combination(
                [1 - ratio] + [Double](repeating: ratio / Double(count), count: count), divisor: nil)
        case .taskVectors(let method):
            return try prepare(method)
        case .lowRankUpdates:
            return .lowRank(try updates.map { try LowRankFactors($0, isDouble: isDouble) })
        }
    }

    /// The sum in the precision that is computed in.
    private func sum(_ weights: [Double]) -> Double {
        isDouble ? weights.reduce(0, +) : Double(weights.reduce(Float(0)) { $0 + Float($1) })
    }

    private func gram(hasBase: Bool = false) throws -> GramMatrix {
        let others = Array(hasBase ? operands[1...] : operands[...])
        return try GramMatrix(
            of: others, from: hasBase ? operands[0] : nil, isDouble: isDouble,
            sweep: sweep(tensorCount: operands.count + 2))
    }

    private func prepare(_ method: TaskVectorMethod) throws -> TensorEvaluation {
        let others = Array(operands[1...])
        let sweep = sweep(tensorCount: 2)
        var sparsities = try MagnitudeSelection(
            base: operands[0], operands: others, isDouble: isDouble, sweep: sweep
        ).sparsities(method.thinnings)
        for (index, thinning) in method.thinnings.enumerated() {
            guard case .random(let density) = thinning, density < 1 else { continue }
            var sparsity = cairn_sparsity()
            sparsity.at_random = 1
            sparsity.key = options.seed
            sparsity.stream = RandomStream.number(tensor: description.name, input: index)
            sparsity.limit = density <= 0 ? 0 : UInt64(density * 0x1p32)
            sparsities[index] = sparsity
        }
        if method.rescaling != .none {
            for (index, thinning) in method.thinnings.enumerated() {
                guard let sparsity = sparsities[index] else { continue }
                sparsities[index]?.scale = try scale(thinning, sparsity, others[index], method.rescaling, sweep)
            }
        }
        let tasks = zip(sparsities, method.weights).map {
            TaskState(sparsity: $0 ?? cairn_sparsity(), weight: $1)
        }
        return .tasks(
            tasks,
            TaskRule(takesMajority: method.takesMajority, normalizes: method.normalizes, lambda: method.lambda))
    }

    private func scale(
        _ thinning: TaskVectorMethod.Thinning, _ sparsity: cairn_sparsity, _ operand: MergeOperand,
        _ rescaling: TaskVectorMethod.Rescaling, _ sweep: TensorSweep
    ) throws -> Double {
        if rescaling == .inverseDensity {
            switch thinning {
            case .none: return 0
            case .largest(let density), .middle(let density, _), .random(let density):
                return density > 0 && density < 1 ? 1 / density : 0
            }
        }
        let (base, isDouble) = (operands[0], self.isDouble)
        let parts = try sweep.map { chunk in
            let origin = try base.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) }
            let x = try operand.elements(of: chunk.region) { chunk.workspace.buffer(1, byteCount: $0) }
            var (before, after, sparsity) = (0.0, 0.0, sparsity)
            cairn_merge_norms(
                kernelLevel, isDouble ? 1 : 0, x, origin, &sparsity, UInt64(chunk.first), chunk.count, &before, &after)
            return (before: before, after: after)
        }
        let (before, after) = parts.reduce((0, 0)) { ($0.0 + $1.before, $0.1 + $1.after) }
        // As mergekit: too little to tell the two apart stays as it is.
        return before < 1e-7 || after < 1e-7 ? 0 : before / after
    }
}

/// Which numbers of the generator an input's tensor draws.
enum RandomStream {
    /// FNV-1a over the tensor's name in UTF-8, a zero, and the number of the task vector in eight bytes: the same whatever
    /// else is merged, in whatever order.
    static func number(tensor: String, input: Int) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for byte in tensor.utf8 { add(byte) }
        add(0)
        for shift in 0..<8 { add(UInt8(truncatingIfNeeded: input >> (8 * shift))) }
        return hash
    }
}
