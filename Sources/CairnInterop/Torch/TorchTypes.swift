import CairnTensor

/// How PyTorch names the types of elements.
enum TorchTypes {
    /// `float32` for `torch.float32`. `float4_e2m1fn_x2` is two elements in a byte.
    static func scalarType(named name: String) -> ScalarType? {
        switch name {
        case "float64", "double": .f64
        case "float32", "float": .f32
        case "float16", "half": .f16
        case "bfloat16": .bf16
        case "int64", "long": .i64
        case "int32", "int": .i32
        case "int16", "short": .i16
        case "int8": .i8
        case "uint8": .u8
        case "uint16": .u16
        case "uint32": .u32
        case "uint64": .u64
        case "bool": .bool
        case "complex32", "chalf": .c32
        case "complex64", "cfloat": .c64
        case "complex128", "cdouble": .c128
        case "float8_e4m3fn": .f8e4m3
        case "float8_e5m2": .f8e5m2
        case "float8_e4m3fnuz": .f8e4m3fnuz
        case "float8_e5m2fnuz": .f8e5m2fnuz
        case "float8_e8m0fnu": .f8e8m0
        case "float4_e2m1fn_x2": .f4
        default: nil
        }
    }

    /// The type that a dtype of a pickle means.
    static func scalarType(_ global: PickleGraph.Global?) -> ScalarType? {
        guard let global, global.module == "torch" else { return nil }
        return scalarType(named: global.name)
    }

    /// The type of a storage's elements; ``ScalarType/u8`` for untyped bytes.
    static func storageType(_ global: PickleGraph.Global?) -> ScalarType? {
        guard let global else { return nil }
        guard ["torch", "torch.cuda", "torch.storage"].contains(global.module) else { return nil }
        return switch global.name {
        case "DoubleStorage": .f64
        case "FloatStorage": .f32
        case "HalfStorage": .f16
        case "BFloat16Storage": .bf16
        case "LongStorage": .i64
        case "IntStorage": .i32
        case "ShortStorage": .i16
        case "CharStorage": .i8
        case "ByteStorage", "UntypedStorage": .u8
        case "BoolStorage": .bool
        case "ComplexFloatStorage": .c64
        case "ComplexDoubleStorage": .c128
        default: nil
        }
    }
}
