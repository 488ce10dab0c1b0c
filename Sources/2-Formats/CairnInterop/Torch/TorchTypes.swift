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

    /// Whether this is the name of a type of elements or of a scheme of quantization, such as `float32` or `qint8`.
    static func isConstant(_ name: String) -> Bool {
        if scalarType(named: name) != nil { return true }
        return [
            "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "per_tensor_affine", "per_tensor_symmetric",
            "per_channel_affine", "per_channel_symmetric", "per_channel_affine_float_qparams",
        ].contains(name)
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
        case "CharStorage", "QInt8Storage": .i8
        case "ByteStorage", "UntypedStorage", "QUInt8Storage", "QUInt4x2Storage", "QUInt2x4Storage": .u8
        case "QInt32Storage": .i32
        case "BoolStorage": .bool
        case "ComplexFloatStorage": .c64
        case "ComplexDoubleStorage": .c128
        default: nil
        }
    }

    /// The type of quantized elements in a storage of this class, and whether several share a byte.
    static func quantizedType(_ storageClass: String) -> (name: String, isPacked: Bool)? {
        switch storageClass {
        case "QInt8Storage": ("torch.qint8", false)
        case "QUInt8Storage": ("torch.quint8", false)
        case "QInt32Storage": ("torch.qint32", false)
        case "QUInt4x2Storage": ("torch.quint4x2", true)
        case "QUInt2x4Storage": ("torch.quint2x4", true)
        default: nil
        }
    }

    /// PyTorch's name of a type: `float32`; `nil` for those it does not have.
    static func name(of scalarType: ScalarType) -> String? {
        switch scalarType {
        case .f64: "float64"
        case .f32: "float32"
        case .f16: "float16"
        case .bf16: "bfloat16"
        case .i64: "int64"
        case .i32: "int32"
        case .i16: "int16"
        case .i8: "int8"
        case .u8: "uint8"
        case .u16: "uint16"
        case .u32: "uint32"
        case .u64: "uint64"
        case .bool: "bool"
        case .c32: "complex32"
        case .c64: "complex64"
        case .c128: "complex128"
        case .f8e4m3: "float8_e4m3fn"
        case .f8e5m2: "float8_e5m2"
        case .f8e4m3fnuz: "float8_e4m3fnuz"
        case .f8e5m2fnuz: "float8_e5m2fnuz"
        case .f8e8m0: "float8_e8m0fnu"
        case .f4: "float4_e2m1fn_x2"
        case .f6e2m3, .f6e3m2: nil
        }
    }

    /// The class of storages of this type; `nil` where PyTorch stores bytes and says the type with the tensor.
    static func storageClass(of scalarType: ScalarType) -> String? {
        switch scalarType {
        case .f64: "DoubleStorage"
        case .f32: "FloatStorage"
        case .f16: "HalfStorage"
        case .bf16: "BFloat16Storage"
        case .i64: "LongStorage"
        case .i32: "IntStorage"
        case .i16: "ShortStorage"
        case .i8: "CharStorage"
        case .u8: "ByteStorage"
        case .bool: "BoolStorage"
        case .c64: "ComplexFloatStorage"
        case .c128: "ComplexDoubleStorage"
        default: nil
        }
    }

    /// A type by its number in programs of `torch.export`. Source: `torch/_export/serde/schema.py` of PyTorch 2.13.
    static func scalarType(exported number: Int) -> ScalarType? {
        let types: [Int: ScalarType] = [
            1: .u8, 2: .i8, 3: .i16, 4: .i32, 5: .i64, 6: .f16, 7: .f32, 8: .f64, 9: .c32, 10: .c64, 11: .c128,
            12: .bool, 13: .bf16, 28: .u16, 29: .f8e4m3, 30: .f8e5m2, 31: .f8e4m3fnuz, 32: .f8e5m2fnuz,
            33: .f8e8m0, 34: .u32, 35: .u64,
        ]
        return types[number]
    }
}
