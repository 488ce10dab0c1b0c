package import CairnBase
package import CairnTensor

/// A tensor of a run's state, known without a trainer.
package struct StateTensor: Sendable, Hashable {
    package let name: String
    package let scalarType: ScalarType
    package let shape: Shape
    /// The parameter that it is, or that it is kept for.
    package let parameter: String
    /// What it is kept as: `exp_avg`, `master`, …, `average`; `nil` for the parameter itself.
    package let slot: String?
}

extension TransformerConfiguration {
    /// All tensors of the state of a run of such a model, as ``Trainer/state()`` lists them.
    ///
    /// - Parameters:
    ///   - optimizer: the value `optimizer` of the state; without one no tensors of the optimizer are listed.
    ///   - trainer: the value `trainer`, which tells how the weights are kept.
    ///   - hasAverage: whether there is a moving average of the weights.
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for values that are not a trainer's.
    package func stateTensors(
        optimizer: Value?, trainer: Value?, hasAverage: Bool
    ) throws(CairnError) -> [StateTensor] {
        let precision: WeightPrecision = try ValueFields("trainer", trainer).choice("precision")
        let parameters = Transformer(self).parameters
        var tensors = parameters.map {
            StateTensor(
                name: $0.name, scalarType: precision.scalarType, shape: $0.shape, parameter: $0.name, slot: nil)
        }
        if hasAverage {
            tensors += parameters.map {
                StateTensor(
                    name: ParameterUpdate.averageName(of: $0.name), scalarType: .f32, shape: $0.shape,
                    parameter: $0.name, slot: "average")
            }
        }
        guard let optimizer else { return tensors }
        let kind: OptimizerConfiguration.Kind = try ValueFields("optimizer", optimizer).choice("kind")
        for parameter in parameters {
            let rule = ParameterUpdate.rule(kind, parameter.role)
            for slot in ParameterUpdate.slots(rule, hasMaster: precision.scalarType != .f32) {
                tensors.append(
                    StateTensor(
                        name: "optimizer.\(slot).\(parameter.name)", scalarType: .f32, shape: parameter.shape,
                        parameter: parameter.name, slot: slot))
            }
        }
        return tensors
    }

    /// The first values of the routers, drawn from a sequence of their own, by name.
    ///
    /// - Parameter granularity: how many experts behind one another are parts of one, and always wanted together.
    package func initialRouters(seed: UInt64, granularity: Int) throws -> [String: Tensor] {
        var random = PhiloxGenerator(key: seed, stream: 2)
        var routers: [String: Tensor] = [:]
        for parameter in Transformer(self).parameters where parameter.name.hasSuffix(".mlp.router.weight") {
            let values = parameter.initialization.values(parameter.shape.elementCount / granularity, &random)
            let rows = (0..<parameter.shape[0]).flatMap { row in
                values[row / granularity * width..<(row / granularity + 1) * width]
            }
            routers[parameter.name] = try Tensor(rows, parameter.shape)
        }
        return routers
    }

    /// Names that stand for a parameter of another name.
    package var ties: [(name: String, target: String)] { Transformer(self).ties }
}
