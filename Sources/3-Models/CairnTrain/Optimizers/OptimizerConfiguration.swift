internal import CairnBase
internal import CairnTensor

/// Which optimizer, and its constants. The learning rate is the schedule's.
public struct OptimizerConfiguration: Sendable, Hashable {
    /// The update rules.
    package enum Kind: String, Sendable, Hashable, CaseIterable {
        /// Gradient descent with momentum; decay is added to the gradient.
        case sgd
        /// Adam with decoupled decay of matrices (Loshchilov, Hutter 2019).
        case adamW = "adamw"
        /// Orthogonalised momentum for hidden matrices (Jordan et al. 2024), AdamW for the rest.
        case muon
    }

    package var kind: Kind
    /// Decay of the first moment of AdamW.
    package var beta1 = 0.9
    /// Decay of the second moment of AdamW.
    package var beta2 = 0.95
    /// What AdamW adds to the root of the second moment.
    package var epsilon = 1e-8
    /// Momentum of SGD and Muon.
    package var momentum = 0.9
    /// Whether SGD and Muon look ahead along the momentum.
    package var nesterov = false
    /// How much of a matrix decays for each unit of learning rate. One-dimensional parameters never decay.
    package var weightDecay = 0.0
    /// With Muon, the learning rate of what AdamW updates, as a fraction of the schedule's.
    package var adamRateRatio = 1.0

    private init(_ kind: Kind) { self.kind = kind }

    /// AdamW.
    public static func adamW(
        beta1: Double = 0.9, beta2: Double = 0.95, epsilon: Double = 1e-8, weightDecay: Double = 0.1
    ) -> OptimizerConfiguration {
        var configuration = OptimizerConfiguration(.adamW)
        configuration.beta1 = beta1
        configuration.beta2 = beta2
        configuration.epsilon = epsilon
        configuration.weightDecay = weightDecay
        return configuration
    }

    /// Gradient descent with momentum: m ← momentum · m + g.
    public static func sgd(
        momentum: Double = 0.9, nesterov: Bool = false, weightDecay: Double = 0
    ) -> OptimizerConfiguration {
        var configuration = OptimizerConfiguration(.sgd)
        configuration.momentum = momentum
        configuration.nesterov = nesterov
        configuration.weightDecay = weightDecay
        return configuration
    }

    /// Muon: m ← lerp(m, g, 1 − momentum), looking ahead; AdamW (0.9, 0.95, 1e-10) for embeddings, head and vectors.
    public static func muon(
        momentum: Double = 0.95, weightDecay: Double = 0, adamRateRatio: Double = 0.1
    ) -> OptimizerConfiguration {
        var configuration = OptimizerConfiguration(.muon)
        configuration.momentum = momentum
        configuration.nesterov = true
        configuration.epsilon = 1e-10
        configuration.weightDecay = weightDecay
        configuration.adamRateRatio = adamRateRatio
        return configuration
    }

    /// What the stored momentum means: conventions differ by a constant factor, so a momentum under another name must
    /// not be taken for this one.
    var convention: String {
        switch kind {
        case .sgd: "momentum-sum"
        case .adamW: "moment-average"
        case .muon: "momentum-average"
        }
    }

    func value(step: Int, restarts: [String: OptimizerRestart] = [:]) -> Value {
        var fields: [String: Value] = [
            "kind": .string(kind.rawValue), "convention": .string(convention), "step": .integer(Int64(step)),
            "beta1": .double(beta1), "beta2": .double(beta2), "epsilon": .double(epsilon),
            "momentum": .double(momentum), "nesterov": .bool(nesterov), "weight_decay": .double(weightDecay),
            "adam_rate_ratio": .double(adamRateRatio),
        ]
        // A run that has lost nothing is stored as it was before that could be.
        if !restarts.isEmpty { fields["restarts"] = .dictionary(restarts.mapValues(\.value)) }
        return .dictionary(fields)
    }

    /// The stored constants; the kind must be that of `expected`.
    init(_ fields: ValueFields, expected: OptimizerConfiguration) throws(CairnError) {
        try fields.expect("kind", .string(expected.kind.rawValue))
        try fields.expect("convention", .string(expected.convention))
        self.init(expected.kind)
        beta1 = try fields.double("beta1")
        beta2 = try fields.double("beta2")
        epsilon = try fields.double("epsilon")
        momentum = try fields.double("momentum")
        nesterov = try fields.bool("nesterov")
        weightDecay = try fields.double("weight_decay")
        adamRateRatio = try fields.double("adam_rate_ratio")
        try fields.allowOnly([
            "kind", "convention", "step", "beta1", "beta2", "epsilon", "momentum", "nesterov", "weight_decay",
            "adam_rate_ratio", "restarts",
        ])
    }
}

/// A parameter whose optimizer began anew after the others', because what it had gathered was lost.
package struct OptimizerRestart: Sendable, Hashable {
    /// How many steps the optimizer had taken then: the parameter's own count begins there.
    package var step: Int
    /// What its learning rate is multiplied by since.
    package var rateFactor = 1.0

    package init(step: Int, rateFactor: Double = 1) {
        self.step = step
        self.rateFactor = rateFactor
    }

    var value: Value { .dictionary(["step": .integer(Int64(step)), "rate_factor": .double(rateFactor)]) }

    /// Those that a stored optimizer tells of.
    ///
    /// - Parameter count: How many steps it has taken.
    static func all(_ optimizer: ValueFields, upTo count: Int) throws(CairnError) -> [String: OptimizerRestart] {
        guard optimizer.has("restarts") else { return [:] }
        let fields = try optimizer.fields("restarts")
        var restarts: [String: OptimizerRestart] = [:]
        for name in fields.names {
            let own = try fields.fields(name)
            let factor = try own.double("rate_factor")
            guard factor.isFinite, factor > 0 else {
                throw ValueFields.wrong("\(own.path).rate_factor", "a number above 0", .double(factor))
            }
            restarts[name] = OptimizerRestart(step: try own.integer("step", in: 0...count), rateFactor: factor)
            try own.allowOnly(["step", "rate_factor"])
        }
        return restarts
    }
}
