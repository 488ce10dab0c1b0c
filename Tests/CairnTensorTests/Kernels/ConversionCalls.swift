import CairnTensor

/// The elements of `values`, read as `source`, converted to `destination` and read as `D`.
func converted<S: BitwiseCopyable, D: BitwiseCopyable & ExpressibleByIntegerLiteral>(
    _ values: [S], _ source: ScalarType, to destination: ScalarType, as: D.Type, overflow: OverflowBehavior = .ieee,
    level: Int = 3
) throws -> [D] {
    var result = [D](repeating: 0, count: values.count)
    var bytesSpan = result.mutableSpan
    var bytes = bytesSpan.mutableBytes
    try ScalarConversion.convert(
        values.span.bytes, from: source, into: &bytes, to: destination, overflow: overflow, level: level)
    return result
}

extension FloatFormatReference {

    /// The codes that `values` convert to.
    func encoded<S: BitwiseCopyable>(
        _ values: [S], _ source: ScalarType, overflow: OverflowBehavior = .ieee, level: Int = 3
    ) throws -> [UInt16] {
        width == 8
            ? try converted(values, source, to: type, as: UInt8.self, overflow: overflow, level: level).map(UInt16.init)
            : try converted(values, source, to: type, as: UInt16.self, overflow: overflow, level: level)
    }

    /// The values that `codes` convert to.
    func decoded<D: BitwiseCopyable & ExpressibleByIntegerLiteral>(
        _ codes: [UInt16], to destination: ScalarType, as: D.Type, level: Int = 3
    ) throws -> [D] {
        width == 8
            ? try converted(codes.map { UInt8($0) }, type, to: destination, as: D.self, level: level)
            : try converted(codes, type, to: destination, as: D.self, level: level)
    }
}
