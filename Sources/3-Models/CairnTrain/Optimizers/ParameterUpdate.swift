internal import CTrainKernels
internal import CairnBase
internal import CairnTensor

/// The state of one parameter's updates, and the updates.
///
/// All of it is rewritten, never mutated in place while shared: a snapshot of the tensors costs no copy.
struct ParameterUpdate: Sendable {
    enum Rule: Sendable, Hashable {
        case sgd
        case adamW
        case muon(blocks: Int)

        /// Whether each element is updated by itself.
        var isElementwise: Bool {
            switch self {
            case .sgd, .adamW: true
            case .muon: false
            }
        }
    }

    /// How the optimizer updates parameters of a role.
    static func rule(_ kind: OptimizerConfiguration.Kind, _ role: ParameterRole) -> Rule {
        switch (kind, role) {
        case (.sgd, _): .sgd
        case (.muon, .hidden(let blocks)): .muon(blocks: blocks)
        case (.adamW, _), (.muon, _): .adamW
        }
    }

    /// The names of what is kept of a parameter: `optimizer.<slot>.<parameter>`, and `average.<parameter>`.
    static func slotNames(of name: String, _ rule: Rule, hasMaster: Bool, hasAverage: Bool) -> [String] {
        slots(rule, hasMaster: hasMaster).map { "optimizer.\($0).\(name)" }
            + (hasAverage ? [averageName(of: name)] : [])
    }

    static func averageName(of name: String) -> String { "average.\(name)" }

    /// What the optimizer keeps of a parameter.
    static func slots(_ rule: Rule, hasMaster: Bool) -> [String] {
        (rule == .adamW ? ["exp_avg", "exp_avg_sq"] : ["momentum"]) + (hasMaster ? ["master"] : [])
    }

    /// What all parameters of one step share.
    struct Step: Sendable {
        var configuration: OptimizerConfiguration
        var learningRate: Double
        /// The first step is 1.
        var number: Int
        var gradientScale: Float
        /// How much of the average of the weights is kept, if one is kept.
        var averageDecay: Double?
        /// The parameters whose optimizer began anew.
        var restarts: [String: OptimizerRestart] = [:]

        /// The step as a parameter counts it.
        func counted(by name: String) -> Step {
            guard let restart = restarts[name] else { return self }
            var own = self
            own.number -= restart.step
            own.learningRate *= restart.rateFactor
            return own
        }
    }

    let name: String
    let rule: Rule
    let shape: Shape
    /// Whether weight decay applies: to everything but vectors.
    let decays: Bool
    /// The momentum, or the first moment.
    var first: Tensor
    /// The second moment of AdamW.
    var second: Tensor?
    /// The exact weight where the model keeps a rounded one.
    var master: Tensor?
    /// The moving average of the exact weight, where one is kept.
    var average: Tensor?

    /// The update of a parameter that has had none.
    ///
    /// - Parameter weight: the parameter or that part of it which is updated here; gives the shape, and the master copy
    ///   when it is not of type F32.
    init(
        _ specification: ParameterSpecification, weight: Tensor, _ configuration: OptimizerConfiguration,
        hasAverage: Bool, pool: BufferPool
    ) throws {
        name = specification.name
        shape = weight.shape
        decays = specification.shape.dimensionCount > 1
        rule = Self.rule(configuration.kind, specification.role)
        first = try Tensor(zeros: .f32, shape, pool: pool)
        second = rule == .adamW ? try Tensor(zeros: .f32, shape, pool: pool) : nil
        master = weight.scalarType == .f32 ? nil : try weight.converted(to: .f32, pool: pool)
        average = hasAverage ? master ?? weight : nil
    }

    /// The names and tensors of the state.
    var tensors: [(name: String, tensor: Tensor)] {
        let names = Self.slotNames(of: name, rule, hasMaster: master != nil, hasAverage: average != nil)
        return zip(names, [first, second, master, average].compactMap(\.self)).map { (name: $0, tensor: $1) }
    }

    /// Takes over tensors of the same names, types and shapes.
    mutating func replace(_ take: (String, Tensor) throws(CairnError) -> Tensor) throws(CairnError) {
        var names = Self.slotNames(of: name, rule, hasMaster: master != nil, hasAverage: false)
        first = try take(names.removeFirst(), first)
        if let old = second { second = try take(names.removeFirst(), old) }
        if let old = master { master = try take(names.removeFirst(), old) }
        try replaceAverage(take)
    }

    /// Takes over the average, which is not part of the optimizer's state.
    mutating func replaceAverage(_ take: (String, Tensor) throws(CairnError) -> Tensor) throws(CairnError) {
        if let old = average { average = try take(Self.averageName(of: name), old) }
    }

    /// Lets the average follow the weight of a step that has been taken.
    mutating func follow(_ step: Step, _ weight: Tensor, pool: BufferPool) {
        guard let decay = step.averageDecay, average != nil else { return }
        let exact = master ?? weight
        // The very weight: the next update goes elsewhere.
        guard decay > 0 else { return average = exact }
        let share = Float(1 - decay)
        exact.bytes.withUnsafeBytes { bytes in
            guard let weights = bytes.assumingMemoryBound(to: Float.self).baseAddress else { return }
            average?.rewrite(as: Float.self, pool: pool) { old, new in
                guard let old = old.baseAddress, let new = new.baseAddress else { return }
                cairn_scale_add(bytes.count / MemoryLayout<Float>.stride, Float(decay), old, share, weights, new)
            }
        }
    }

    /// One step: updates `weight`, of type F32 or rounded from the master copy.
    mutating func apply(
        _ step: Step, gradient: UnsafePointer<Float>, to weight: inout Tensor, pool: BufferPool
    ) throws {
        let step = step.counted(by: name)
        if var exact = master {
            // So that `exact` is the only reference and is updated in place.
            master = nil
            update(step, gradient, &exact, pool)
            let scalarType = weight.scalarType
            try weight.overwrite(pool: pool) { bytes in
                try ScalarConversion.convert(exact.bytes, from: .f32, into: &bytes, to: scalarType)
            }
            master = exact
        } else {
            update(step, gradient, &weight, pool)
        }
        follow(step, weight, pool: pool)
    }

    private mutating func update(
        _ step: Step, _ gradient: UnsafePointer<Float>, _ weight: inout Tensor, _ pool: BufferPool
    ) {
        switch rule {
        case .sgd: sgd(step, gradient, &weight, pool)
        case .adamW: adamW(step, gradient, &weight, pool)
        case .muon(let blocks): muon(step, gradient, &weight, pool, blocks: blocks)
        }
    }

    func decay(_ configuration: OptimizerConfiguration) -> Float {
        decays ? Float(configuration.weightDecay) : 0
    }

    private mutating func sgd(
        _ step: Step, _ gradient: UnsafePointer<Float>, _ weight: inout Tensor, _ pool: BufferPool
    ) {
        let constants = cairn_sgd_step(
            gradient_scale: step.gradientScale, learning_rate: Float(step.learningRate),
            weight_decay: decay(step.configuration), momentum: Float(step.configuration.momentum),
            nesterov: step.configuration.nesterov ? 1 : 0)
        weight.rewrite(as: Float.self, pool: pool) { oldWeight, newWeight in
            first.rewrite(as: Float.self, pool: pool) { oldFirst, newFirst in
                cairn_sgd(
                    oldWeight.count, constants, gradient, oldWeight.baseAddress, newWeight.baseAddress,
                    oldFirst.baseAddress, newFirst.baseAddress)
            }
        }
    }

    private mutating func adamW(
        _ step: Step, _ gradient: UnsafePointer<Float>, _ weight: inout Tensor, _ pool: BufferPool
    ) {
        let c = step.configuration
        let rate = c.kind == .muon ? step.learningRate * c.adamRateRatio : step.learningRate
        let constants = cairn_adamw_step(
            gradient_scale: step.gradientScale, learning_rate: Float(rate), weight_decay: decay(c),
            beta1: Float(c.beta1), beta2: Float(c.beta2), epsilon: Float(c.epsilon),
            correction1: Float(1 - c.beta1.power(step.number)),
            correction2_root: Float((1 - c.beta2.power(step.number)).squareRoot()))
        guard var second else { preconditionFailure("AdamW without a second moment") }
        self.second = nil
        weight.rewrite(as: Float.self, pool: pool) { oldWeight, newWeight in
            first.rewrite(as: Float.self, pool: pool) { oldFirst, newFirst in
                second.rewrite(as: Float.self, pool: pool) { oldSecond, newSecond in
                    cairn_adamw(
                        oldWeight.count, constants, gradient, oldWeight.baseAddress, newWeight.baseAddress,
                        oldFirst.baseAddress, newFirst.baseAddress, oldSecond.baseAddress, newSecond.baseAddress)
                }
            }
        }
        self.second = second
    }

    private mutating func muon(
        _ step: Step, _ gradient: UnsafePointer<Float>, _ weight: inout Tensor, _ pool: BufferPool, blocks: Int
    ) {
        let rows = shape[0] / blocks
        let columns = shape[1]
        let count = rows * columns
        let rate = Float(step.learningRate)
        let keep = 1 - rate * decay(step.configuration)
        // Tall matrices need larger updates for the same change of the output.
        let factor = -rate * max(1, Float(rows) / Float(columns)).squareRoot()
        let beta = Float(step.configuration.momentum)
        let work = Orthogonalization(rows: rows, columns: columns, pool: pool)
        // The update lies in its memory.
        defer { withExtendedLifetime(work) {} }
        weight.rewrite(as: Float.self, pool: pool) { oldWeight, newWeight in
            first.rewrite(as: Float.self, pool: pool) { oldFirst, newFirst in
                guard let oldWeight = oldWeight.baseAddress, let newWeight = newWeight.baseAddress,
                    let oldFirst = oldFirst.baseAddress, let newFirst = newFirst.baseAddress
                else { return }
                for block in 0..<blocks {
                    let start = block * count
                    let squares = cairn_muon_momentum(
                        count, step.gradientScale, beta, gradient + start, oldFirst + start, newFirst + start,
                        work.matrix)
                    let update = work.orthogonalize(norm: Float(squares.squareRoot()))
                    cairn_scale_add(count, keep, oldWeight + start, factor, update, newWeight + start)
                }
            }
        }
    }
}

extension Double {
    /// Powers by repeated squaring: the same bits with every C library.
    func power(_ exponent: Int) -> Double {
        var result = 1.0
        var base = self
        var rest = exponent
        while rest > 0 {
            if rest & 1 == 1 { result *= base }
            base *= base
            rest >>= 1
        }
        return result
    }
}
