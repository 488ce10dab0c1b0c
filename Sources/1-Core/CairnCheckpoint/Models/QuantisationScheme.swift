import CairnTensor

/// How weights are stored as codes that mean numbers only together with what lies beside them.
package enum QuantisationScheme: String, Sendable, Hashable, CaseIterable {
    /// 8-bit floats in blocks of a matrix, each block with a scale: DeepSeek's `weight_scale_inv`.
    case scaledBlocks = "FP8 with a scale for each block (weight_scale_inv)"
    /// 8-bit floats with a scale for the tensor, each channel or each block: `weight_scale` and its other spellings.
    case scaledFloats = "FP8 with scales"
    /// 8-bit integers with scales.
    case scaledIntegers = "8-bit integers (INT8) with scales"
    /// 4-bit floats in blocks of 32 with a power of two each.
    case mxfp4 = "MXFP4"
    /// 4-bit floats in blocks of 16 with an 8-bit scale each, and one scale for all.
    case nvfp4 = "NVFP4"
    /// Integers of a few bits, packed in words, of compressed-tensors.
    case packedIntegers = "packed integers (compressed-tensors pack-quantized)"
    case gptq = "GPTQ"
    case awq = "AWQ"
    /// Columns packed as GPTQ and AWQ do, which only a configuration tells apart.
    case packedColumns = "GPTQ or AWQ"
    case nf4 = "bitsandbytes NF4"
    case fp4 = "bitsandbytes FP4"
    case int8 = "bitsandbytes INT8"
    case torchao = "torchao"
    case hqq = "HQQ"
    case quanto = "quanto"
    case aqlm = "AQLM"
    case exl2 = "EXL2"
    /// Codes of which only the model's configuration says that they are.
    case configured = "codes, as the model's configuration says"
}

/// How one scheme names and types the tensors of a weight.
struct QuantisationPattern: Sendable {
    /// What names of codes end with; what stands before it is the weight's beginning.
    let codes: String
    /// The types that codes have.
    let types: Set<ScalarType>
    /// What may stand behind the beginning for the tensor to be codes: at least one of these, unless there is none here.
    var evidence: [Companion] = []
    /// Whatever else belongs to the weight.
    var companions: [String] = []
    let scheme: QuantisationScheme

    /// A tensor beside the codes.
    struct Companion: Sendable {
        let ending: String
        let types: Set<ScalarType>

        init(_ ending: String, _ types: Set<ScalarType>) {
            self.ending = ending
            self.types = types
        }
    }

    private static let floats8: Set<ScalarType> = [.f8e4m3, .f8e5m2, .f8e4m3fnuz, .f8e5m2fnuz]
    private static let scales: Set<ScalarType> = [.f16, .bf16, .f32, .f64]
    /// Scales that are powers of two, also as plain bytes.
    private static let anyScales = scales.union([.f8e8m0, .u8]).union(floats8)
    private static let words: Set<ScalarType> = [.i32, .u32, .i64, .u64, .i16, .u16]
    private static let integers = words.union([.u8, .i8])
    /// Codes stored as numbers of the model's type, so that training in shards takes them along.
    private static let storages = integers.union(scales)

    private static let bitsAndBytes = [
        ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4",
        ".quant_state.bitsandbytes__fp4",
    ]
    private static let packed = [
        "_scale", "_zero_point", "_shape", "_g_idx", "_global_scale",
    ]
    private static let spellings = [
        "_scale_inv", "_scale", "_scales", ".scale", ".scales", "_inv_scale",
    ]

    private static func evidence(_ endings: [String], _ types: Set<ScalarType>) -> [Companion] {
        endings.map { Companion($0, types) }
    }

    /// The types of codes that are not stored in disguise, and of what lies beside those that are.
    static let codeTypes = integers.union(floats8).union([.f4])

    /// All of them; the first that fits a tensor counts.
    static let all: [QuantisationPattern] = [
        .init(
            codes: "", types: storages, evidence: evidence([".quant_state.bitsandbytes__fp4"], [.u8]),
            companions: bitsAndBytes, scheme: .fp4),
        .init(
            codes: "", types: storages, evidence: evidence([".quant_state.bitsandbytes__nf4"], [.u8]),
            companions: bitsAndBytes, scheme: .nf4),
        .init(
            codes: "", types: [.u8], evidence: evidence([".absmax"], [.f32, .u8]), companions: bitsAndBytes,
            scheme: .nf4),
        .init(
            codes: "weight", types: [.i8], evidence: evidence(["SCB"], scales), companions: ["weight_format"],
            scheme: .int8),
        .init(codes: "qweight", types: words, companions: ["scales", "qzeros", "g_idx"], scheme: .packedColumns),
        .init(
            codes: "_packed", types: [.u8], evidence: evidence(["_global_scale"], scales) + evidence(["_scale"], floats8),
            companions: packed, scheme: .nvfp4),
        .init(
            codes: "_packed", types: [.u8], evidence: evidence(["_scale"], [.u8, .f8e8m0]), companions: packed,
            scheme: .mxfp4),
        .init(
            codes: "weight_packed", types: integers, companions: packed.map { "weight" + $0 }, scheme: .packedIntegers),
        .init(
            codes: "weight", types: [.u8, .f4],
            evidence: evidence(["weight_scale_2"], scales) + evidence(["weight_scale"], floats8),
            companions: ["weight_scale", "weight_scale_2", "input_scale"], scheme: .nvfp4),
        .init(codes: "_blocks", types: [.u8, .f4], evidence: evidence(["_scales"], [.u8, .f8e8m0]), scheme: .mxfp4),
        .init(
            codes: "_qdata", types: integers.union(floats8), evidence: evidence(["_scale"], anyScales),
            companions: ["_zero_point"], scheme: .torchao),
        .init(
            codes: "._data", types: integers.union(floats8), evidence: evidence(["._scale"], scales),
            companions: ["._shift"], scheme: .quanto),
        .init(
            codes: "W_q", types: integers, evidence: evidence(["scale", "zero", "meta"], storages),
            companions: [
                "nbits", "group_size", "axis", "shape", "packing", "view_as_float", "unpack_view_dtype", "compute_dtype",
                "quant_scale", "quant_zero", "offload_meta", "encoded_state_dict", "stores_quant_config", "channel_wise",
                "optimize", "round_zero", "scale_q", "zero_q",
            ], scheme: .hqq),
        .init(
            codes: "codes", types: integers, evidence: evidence(["codebooks"], scales), companions: ["scales"],
            scheme: .aqlm),
        .init(
            codes: "q_weight", types: words, evidence: evidence(["q_scale"], integers),
            companions: ["q_scale_max", "q_groups", "q_group_map", "q_perm", "q_invperm"], scheme: .exl2),
        .init(
            codes: "", types: floats8, evidence: evidence(["_scale_inv"], anyScales), companions: spellings,
            scheme: .scaledBlocks),
        .init(
            codes: "weight", types: floats8,
            evidence: evidence(["scale_weight", "qscale_weight", "scale", "scales"], anyScales),
            companions: ["scale_input", "qscale_act", "input_scale"], scheme: .scaledFloats),
        .init(
            codes: "", types: [.f4], evidence: evidence(spellings, [.u8, .f8e8m0]), companions: spellings,
            scheme: .mxfp4),
        .init(codes: "", types: [.f4], evidence: evidence(spellings, floats8), companions: spellings, scheme: .nvfp4),
        .init(
            codes: "", types: floats8.union([.f4]), evidence: evidence(spellings, anyScales), companions: spellings,
            scheme: .scaledFloats),
        .init(
            codes: "", types: [.i8], evidence: evidence(["_scale", "_scale_inv"], scales), companions: ["_zero_point"],
            scheme: .scaledIntegers),
        .init(
            codes: "weight", types: [.i8, .u8],
            evidence: evidence(["scale", "scales", "weight_scale", "weight_scales", "weight_scale_inv"], anyScales),
            companions: ["weight_zero_point", "zero_point", "zeros"], scheme: .scaledIntegers),
    ]
}
