import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A size of the command line: `5GB`, `512MiB`.
struct ByteCountArgument: ExpressibleByArgument, Sendable {
    let byteCount: Int

    init(byteCount: Int) { self.byteCount = byteCount }

    /// As it is written: 5GB.
    var defaultValueDescription: String {
        byteCount % 1_000_000_000 == 0 ? "\(byteCount / 1_000_000_000)GB" : String(byteCount)
    }

    init?(argument: String) {
        guard let byteCount = ByteCountText.parse(argument), byteCount > 0 else { return nil }
        self.byteCount = byteCount
    }
}

/// `PATTERN=REPLACEMENT` of the command line, cut at the first equals sign.
struct RenameArgument: ExpressibleByArgument, Sendable {
    private let pattern: String
    private let replacement: String

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        pattern = String(argument[..<equals])
        replacement = String(argument[argument.index(after: equals)...])
        guard !replacement.isEmpty else { return nil }
    }

    /// - Throws: ``CairnError/Code/invalidArgument``, saying what is wrong with it.
    func rule() throws(CairnError) -> RenameRule { try RenameRule(pattern, to: replacement) }
}

/// A scalar type of the command line: `BF16`, in any case, or as PyTorch says it.
struct ScalarTypeArgument: ExpressibleByArgument, Sendable {
    let scalarType: ScalarType

    private static let synonyms: [String: ScalarType] = [
        "FLOAT64": .f64, "DOUBLE": .f64, "FLOAT32": .f32, "FLOAT": .f32, "FLOAT16": .f16, "HALF": .f16,
        "BFLOAT16": .bf16, "INT8": .i8, "INT16": .i16, "INT32": .i32, "INT64": .i64, "UINT8": .u8, "UINT16": .u16,
        "UINT32": .u32, "UINT64": .u64, "FLOAT8_E4M3FN": .f8e4m3, "FLOAT8_E5M2": .f8e5m2,
    ]

    init?(argument: String) {
        let name = argument.uppercased()
        guard let scalarType = ScalarType(rawValue: name) ?? Self.synonyms[name] else { return nil }
        self.scalarType = scalarType
    }

    static let allValueStrings = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]
}
