import CairnTensor

/// A parameter that an optimizer keeps in flat buffers.
public struct FlatParameter: Sendable, Hashable {
    /// Its name.
    package var name: String
    /// Its shape on a rank before the buffer is cut; expressions may use the mesh, such as `hidden/tp.size`.
    package var shape: [IntegerExpression]
    /// What the axes before the buffer's do: tensor parallelism.
    package var placement: [On]

    public init(_ name: String, _ shape: [IntegerExpression], placement: [On] = []) {
        self.name = name
        self.shape = shape
        self.placement = placement
    }
}

extension UniversalSpec {
    /// How DeepSpeed cuts the optimizer's state.
    public enum ZeROStage: Sendable, Hashable {
        /// One buffer over all parameters, aligned to twice the data-parallel size, padding left out (stages 1 and 2).
        case one
        /// Each parameter cut by itself (stage 3).
        case three
    }

    /// DeepSpeed ZeRO: master weights and Adam's moments in one flat buffer each, cut over `dp` after tensor
    /// parallelism.
    ///
    /// Names are those of the nested dictionaries in `…_optim_states.pt` and, for the 16-bit weights,
    /// `…_model_states.pt`. The moments of `x` are `x.fp32`, `x.exp_avg`, `x.exp_avg_sq`.
    ///
    /// - Parameters:
    ///   - parameters: All of the group, in the order in which DeepSpeed flattened them (`param_shapes`).
    ///   - holdsWeights: Whether the shards hold the 16-bit weights too, as `module.x`.
    /// Source: DeepSpeed's `stage_1_and_2.py`, `stage3.py`, `ds_to_universal.py`.
    public static func deepSpeedZeRO(
        _ stage: ZeROStage, parameters: [FlatParameter], holdsWeights: Bool = true
    ) throws -> UniversalSpec {
        let buffers: [(moment: String, name: String)]
        let arrangement: FlatBuffer.Arrangement
        switch stage {
        case .one:
            let state = "optimizer_state_dict.base_optimizer_state.state.0."
            buffers = [
                ("fp32", "optimizer_state_dict.single_partition_of_fp32_groups.0"), ("exp_avg", state + "exp_avg"),
                ("exp_avg_sq", state + "exp_avg_sq"),
            ]
            arrangement = .group(multiple: "2*dp.size")
        case .three:
            let state = "optimizer_state_dict.optimizer_state_dict.state.0."
            buffers = [
                ("fp32", "optimizer_state_dict.fp32_flat_groups.0"), ("exp_avg", state + "exp_avg"),
                ("exp_avg_sq", state + "exp_avg_sq"),
            ]
            arrangement = .perTensor
        }
        var spec = try UniversalSpec(mesh: ["dp", "tp"]) {
            for (moment, name) in buffers {
                Moment(
                    moment, from: "\(moment).{fqn}", to: "{fqn}.\(moment)", scalarType: .f32,
                    placement: [On("dp", .flatten(.buffer))])
                FlatBuffer(
                    name, over: "dp", arrangement: arrangement, isTrimmed: stage == .one,
                    members: parameters.map { .init("\(moment).module.\($0.name)", $0.shape) })
            }
            for parameter in parameters {
                Rule(
                    parameter.name, from: "module." + parameter.name.escapedForTemplate,
                    to: parameter.name.escapedForTemplate
                ) { for step in parameter.placement { step } }
            }
        }
        spec.summary = "DeepSpeed ZeRO: flat buffers of the optimizer, cut over dp after tensor parallelism."
        guard !holdsWeights else { return spec }
        // Without the weights the buffers alone say what there is.
        spec.rules = buffers.flatMap { buffer in
            parameters.map { parameter in
                var rule = Rule(
                    "\(parameter.name) \(buffer.moment)",
                    from: "\(buffer.moment).module." + parameter.name.escapedForTemplate,
                    to: parameter.name.escapedForTemplate + "." + buffer.moment)
                rule.placement = parameter.placement + [On("dp", .flatten(.buffer))]
                return rule
            }
        }
        spec.moments = []
        try spec.validate()
        return spec
    }

    /// PyTorch FSDP2 (`fully_shard`): every tensor chunked over its first dimension; `hsdp` replicates over `replica`.
    ///
    /// Source: PyTorch's `Shard(0)` of a `DTensor`: `torch.chunk`.
    public static func fullyShardedByRows(hasReplicas: Bool = false) throws -> UniversalSpec {
        var spec = try UniversalSpec(mesh: hasReplicas ? ["replica", "dp"] : ["dp"]) {
            Rule("all", from: "{name**}", to: "{name}") { On("dp", .shard(0, .chunked)) }
        }
        spec.summary = "PyTorch FSDP2: every tensor chunked over its first dimension."
        return spec
    }

    /// PyTorch FSDP1: the parameters of a module in one flat parameter, cut over `dp`.
    ///
    /// - Parameters:
    ///   - buffer: The name of the flat parameter.
    ///   - parameters: In the order in which they were flattened.
    ///   - alignment: Every parameter begins at a multiple of it: 4 with 32-bit and 8 with 16-bit weights where FSDP
    ///     was told to align, else 1.
    public static func fullyShardedFlat(
        _ buffer: String = "_flat_param", parameters: [FlatParameter], alignment: Int = 1
    ) throws -> UniversalSpec {
        var spec = try UniversalSpec(mesh: ["dp"]) {
            FlatBuffer(
                buffer, over: "dp", arrangement: .group(alignment: IntegerExpression(integerLiteral: alignment)),
                members: parameters.map { .init("\(buffer)/\($0.name)", $0.shape) })
            for parameter in parameters {
                Rule(
                    parameter.name, from: (buffer + "/" + parameter.name).escapedForTemplate,
                    to: parameter.name.escapedForTemplate
                ) { On("dp", .flatten(.buffer)) }
            }
        }
        spec.summary = "PyTorch FSDP1: one flat parameter, cut over dp."
        return spec
    }
}

extension String {
    /// A name as a pattern that fits it alone.
    package var escapedForTemplate: String {
        var result = ""
        for scalar in unicodeScalars {
            if "\\*{}".unicodeScalars.contains(scalar) { result += "\\" }
            result.unicodeScalars.append(scalar)
        }
        return result
    }
}
