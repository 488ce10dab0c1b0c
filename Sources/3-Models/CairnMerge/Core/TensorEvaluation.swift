import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor's method with everything known that takes a look at the whole tensors.
enum TensorEvaluation: Sendable {
    /// The bytes of an operand; all others must have the same.
    case copy(operand: Int)
    /// The sum of the operands times these, divided by a number.
    case combination([Double], divisor: Double?, isDouble: Bool)
    /// Operand 0 and the task vectors of the others.
    case tasks([TaskState], TaskRule, isDouble: Bool)
    /// Operand 0 and what is done to it, one after the other.
    case updated([PreparedUpdate])

    /// The precision that it needs, if it is another than the operands'.
    var isDouble: Bool? {
        switch self {
        case .combination(_, _, let isDouble), .tasks(_, _, let isDouble): isDouble
        case .copy, .updated: nil
        }
    }
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
    /// Sums of weights up to this count as none: those that add up to zero but for their rounding.
    var leastDivisor = 0.0
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
    let workspaces: RecyclingPool<Workspace>
    let updates: [BoundUpdate]
    let ledger: LossLedger
    private let evaluation = Monitor<TensorEvaluation?>(nil)

    init(
        _ description: TensorDescription, operands: [MergeOperand], method: MergeMethod, updates: [BoundUpdate],
        copied: Int?, options: MergeOptions, workspaces: RecyclingPool<Workspace>, ledger: LossLedger
    ) {
        self.description = description
        self.operands = operands
        self.method = method
        self.updates = updates
        self.ledger = ledger
        self.copied = copied
        self.options = options
        self.workspaces = workspaces
        isDouble =
            switch options.accumulation {
            case .single: false
            case .double: true
            case .automatic: operands.contains { $0.description.scalarType == .f64 }
            }
    }

    /// What is known after a look at the operands, which happens once.
    func evaluated() throws -> TensorEvaluation {
        // Held while operands are read: another reader of the same tensor needs the result, and gives no thread away that
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
            return scale.map { .combination([$0], divisor: nil, isDouble: isDouble) } ?? .copy(operand: 0)
        case .linear(let weights, let normalizes):
            let isDouble = isDouble || MergeMethod.cancels(weights)
            return .combination(
                weights, divisor: normalizes ? sum(weights, isDouble: isDouble) : nil, isDouble: isDouble)
        case .slerp(let t):
            let coefficients = SphericalMethods.slerp(try gram(), t: t)
            return .combination(
                coefficients, divisor: nil, isDouble: isDouble || MergeMethod.areLarge(coefficients))
        case .multiSlerp(let weights, let normalizes, let hasBase, let epsilon):
            return try spherical(hasBase: hasBase) { gram throws(MergeMethodProblem) in
                try SphericalMethods.multiSlerp(gram, weights: weights, normalizes: normalizes, epsilon: epsilon)
            }
        case .karcher(let limit, let tolerance):
            return try spherical(hasBase: false) { gram throws(MergeMethodProblem) in
                try SphericalMethods.karcher(gram, iterationLimit: limit, tolerance: tolerance)
            }
        case .modelStock:
            return try spherical(hasBase: true) { gram in
                SphericalMethods.modelStockRatio(gram).map { ratio in
                    [Double](repeating: ratio / Double(gram.count), count: gram.count)
                }
            }
        case .taskVectors(let method):
            return try prepare(method)
        case .updates:
            return .updated(try prepareUpdates())
        }
    }

    private func prepareUpdates() throws -> [PreparedUpdate] {
        var prepared: [PreparedUpdate] = []
        for update in updates {
            switch update {
            case .sum(let operand, let scale): prepared.append(.sum(operand, scale: scale))
            case .replacement(let operand): prepared.append(.replacement(operand))
            case .rows(let operand, let rows):
                let values = try operand.reader.tensor(operand.description.name).converted(to: isDouble ? .f64 : .f32)
                let positions = Dictionary(uniqueKeysWithValues: rows.enumerated().map { ($1, $0) })
                prepared.append(.rows(values, positions: positions))
            case .product(let product):
                let factors = try LowRankFactors(product, isDouble: isDouble)
                let before = prepared + [.product(factors, nil)]
                let lengths = try product.magnitude.map { magnitude in
                    try OutputLengths(
                        product, factors, magnitude: magnitude, isDouble: isDouble, sweep: sweep(tensorCount: 2)
                    ) { [self] region, memory, workspace in try apply(before, region, into: memory, workspace) }
                }
                prepared.append(.product(factors, lengths))
            }
        }
        return prepared
    }

    /// A sum whose coefficients come from scalar products: with more digits where they cancel out.
    private func spherical(
        hasBase: Bool, _ coefficients: (GramMatrix) throws(MergeMethodProblem) -> [Double]?
    ) throws -> TensorEvaluation {
        do {
            var isDouble = isDouble
            var found = try coefficients(gram(hasBase: hasBase))
            if found == nil {
                isDouble = true
                found = try coefficients(gram(hasBase: hasBase, isCompensated: true))
            }
            let own = found ?? []
            isDouble = isDouble || MergeMethod.areLarge(own)
            // Large multiples of small differences from the base are added up as differences.
            if hasBase, isDouble, own.count <= MergeMethod.greatestCount {
                return .tasks(
                    own.map { TaskState(sparsity: cairn_sparsity(), weight: $0) },
                    TaskRule(takesMajority: false, normalizes: false, lambda: 1), isDouble: true)
            }
            return .combination(
                (hasBase ? [1 - own.reduce(0, +)] : []) + own, divisor: nil, isDouble: isDouble)
        } catch let problem as MergeMethodProblem {
            throw CairnError(
                .invalidArgument, problem.message,
                .init(
                    tensor: description.name, found: operands.map(\.reader.source).joined(separator: ", "),
                    advice: problem.advice))
        }
    }

    /// The sum in the precision that is computed in; in double precision where weights of both signs cancel out.
    private func sum(_ weights: [Double], isDouble: Bool) -> Double {
        isDouble || weights.contains { $0 < 0 }
            ? weights.reduce(0, +) : Double(weights.reduce(Float(0)) { $0 + Float($1) })
    }

    /// - Throws: ``CairnError/Code/unsupported`` for a tensor without a length, which is not a number with a NaN in it.
    private func gram(hasBase: Bool = false, isCompensated: Bool = false) throws -> GramMatrix {
        let others = Array(hasBase ? operands[1...] : operands[...])
        let gram = try GramMatrix(
            of: others, from: hasBase ? operands[0] : nil, isDouble: isDouble, isCompensated: isCompensated,
            sweep: sweep(tensorCount: operands.count + 2))
        if let index = gram.firstWithoutLength {
            throw withoutLength(others[index], hasBase ? "its difference from the base has no length" : "it has no length")
        }
        return gram
    }

    private func withoutLength(_ operand: MergeOperand, _ what: String) -> CairnError {
        CairnError(
            .unsupported,
            "a tensor has a NaN, an infinity or a number too large for its square: \(what), and the method needs that",
            .init(
                file: operand.reader.source, tensor: operand.description.name, expected: "finite numbers",
                advice: "repair the model, or leave the tensor out"))
    }

    private func prepare(_ method: TaskVectorMethod) throws -> TensorEvaluation {
        let others = Array(operands[1...])
        let sweep = sweep(tensorCount: 2)
        // Sums of weights of both signs divide by what is left of them.
        let isMixed = method.normalizes && MergeMethod.haveBothSigns(method.weights)
        let isDouble = isDouble || isMixed
        var sparsities = try MagnitudeSelection(
            base: operands[0], operands: others, isDouble: isDouble, sweep: sweep
        ).sparsities(method.sparsifications)
        for (index, sparsification) in method.sparsifications.enumerated() {
            guard case .random(let density) = sparsification, density < 1 else { continue }
            var sparsity = cairn_sparsity()
            sparsity.at_random = 1
            sparsity.key = options.seed
            sparsity.stream = RandomStream.number(tensor: description.name, input: index)
            sparsity.limit = density <= 0 ? 0 : UInt64(density * 0x1p32)
            sparsities[index] = sparsity
        }
        if method.rescaling != .none {
            for (index, sparsification) in method.sparsifications.enumerated() {
                guard let sparsity = sparsities[index] else { continue }
                sparsities[index]?.scale = try scale(
                    sparsification, sparsity, others[index], method.rescaling, isDouble: isDouble, sweep)
            }
        }
        let tasks = zip(sparsities, method.weights).map {
            TaskState(sparsity: $0 ?? cairn_sparsity(), weight: $1)
        }
        return .tasks(
            tasks,
            TaskRule(
                takesMajority: method.takesMajority, normalizes: method.normalizes,
                leastDivisor: isMixed ? MergeMethod.leastSum(of: method.weights) : 0, lambda: method.lambda),
            isDouble: isDouble)
    }

    private func scale(
        _ sparsification: TaskVectorMethod.Sparsification, _ sparsity: cairn_sparsity, _ operand: MergeOperand,
        _ rescaling: TaskVectorMethod.Rescaling, isDouble: Bool, _ sweep: TensorSweep
    ) throws -> Double {
        if rescaling == .inverseDensity {
            switch sparsification {
            case .none: return 0
            case .largest(let density), .middle(let density, _), .random(let density):
                return density > 0 && density < 1 ? 1 / density : 0
            }
        }
        let base = operands[0]
        let parts = try sweep.map { chunk in
            let origin = try base.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) }
            let x = try operand.elements(of: chunk.region) { chunk.workspace.buffer(1, byteCount: $0) }
            var (before, after, sparsity) = (0.0, 0.0, sparsity)
            cairn_merge_norms(
                kernelLevel, isDouble ? 1 : 0, x, origin, &sparsity, UInt64(chunk.first), chunk.count, &before, &after)
            return (before: before, after: after)
        }
        let (before, after) = parts.reduce((0, 0)) { ($0.0 + $1.before, $0.1 + $1.after) }
        guard before.isFinite, after.isFinite else {
            throw withoutLength(operand, "the magnitudes of its difference from the base have no sum")
        }
        // As mergekit: too little to tell the two apart stays as it is.
        return before < 1e-7 || after < 1e-7 ? 0 : before / after
    }
}

/// Which numbers of the generator an input's tensor draws.
enum RandomStream {
    /// The hash of the tensor's name in UTF-8, a zero, and the number of the task vector in eight bytes: the same whatever
    /// else is merged, in whatever order.
    static func number(tensor: String, input: Int) -> UInt64 {
        var hash = Hash64()
        hash.combine(tensor)
        hash.combine(0)
        for shift in 0..<8 { hash.combine(UInt64(UInt8(truncatingIfNeeded: input >> (8 * shift)))) }
        return hash.value
    }
}
