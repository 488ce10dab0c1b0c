/// How weights are stored as codes that mean numbers only together with what lies beside them.
public enum QuantisationScheme: String, Sendable, Hashable, CaseIterable {
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
