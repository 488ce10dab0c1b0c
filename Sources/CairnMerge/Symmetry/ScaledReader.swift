public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Another checkpoint with units of its network scaled, in double precision and rounded once, as they are read.
public struct ScaledReader: CheckpointView {
    public let base: any CheckpointReader
    private let ledger = LossLedger()
    /// For each tensor the factors along its axes.
    private let factors: [ExactString: [(axis: Int, factors: [Double])]]

    public var tensors: [TensorDescription] { base.tensors }
    public var values: [NamedValue] { base.values }
    public var structure: StateNode? { base.structure }
    public var losses: [LossNote]? { (base.losses ?? []) + ledger.notes }

    /// - Parameter scales: By label what is multiplied into what comes into each unit, as ``ScalingSpec/balance(_:)`` gives it.
    /// - Throws: ``CairnError/Code/mismatch`` for another number of factors than units, or one that is not above 0.
    public init(
        _ base: any CheckpointReader, scales: [String: [Double]], by spec: ScalingSpec
    ) throws(CairnError) {
        self.base = base
        var factors: [ExactString: [(axis: Int, factors: [Double])]] = [:]
        for (label, own) in scales.sorted(by: { $0.key < $1.key }) {
            guard own.allSatisfy({ $0 > 0 && $0.isFinite }) else {
                throw CairnError(.invalidArgument, "every scale must be above 0", .init(file: base.source, found: label))
            }
            for (scaledAxes, list) in [
                (spec.incoming[label, default: []], own), (spec.outgoing[label, default: []], own.map { 1 / $0 }),
            ] {
                for scaled in scaledAxes {
                    let description = try base.description(of: scaled.tensor)
                    guard description.shape.extents.indices.contains(scaled.axis),
                        description.shape[scaled.axis] == list.count, description.scalarType.hasAverage
                    else {
                        throw CairnError(
                            .mismatch, "the scales do not fit an axis",
                            .init(
                                file: base.source, tensor: scaled.tensor,
                                expected: "\(list.count) along axis \(scaled.axis)", found: "\(description.shape)"))
                    }
                    factors[ExactString(description.tiedTo ?? scaled.tensor), default: []].append((scaled.axis, list))
                }
            }
        }
        self.factors = factors
        try QuantisedWeights(in: base.tensors).refuse("another scale of units", of: base.source) { name in
            factors[ExactString(name)] != nil
        }
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        factors[ExactString(try description(of: name).tiedTo ?? name)] == nil ? name : nil
    }

    public func requireStored(_ name: String) throws(CairnError) { try base.requireStored(name) }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(name, region: region, into: &destination)
        let description = try description(of: name)
        guard let axes = factors[ExactString(description.tiedTo ?? name)], region.elementCount > 0 else { return }
        let strides = region.shape.strides
        let type = description.scalarType
        let block = 4096
        var numbers = [Double](repeating: 0, count: min(block, region.elementCount))
        let width = type.byteWidth ?? 1
        var loss = ConversionLoss()
        for begin in stride(from: 0, to: region.elementCount, by: block) {
            let count = min(block, region.elementCount - begin)
            var bytes = destination._mutatingExtracting(begin * width..<(begin + count) * width)
            try Self.convert(bytes.bytes, type, &numbers, count)
            for index in 0..<count {
                for axis in axes {
                    let unit = (begin + index) / strides[axis.axis] % region.shape[axis.axis]
                    numbers[index] *= axis.factors[region.offsets[axis.axis] + unit]
                }
            }
            loss = try loss + ScalarConversion.convertNotingLoss(
                numbers.span.bytes.extracting(0..<count * 8), from: .f64, into: &bytes, to: type)
        }
        ledger.add(loss, in: region, of: name, shape: description.shape, from: .f64, to: type)
    }

    private static func convert(
        _ source: RawSpan, _ type: ScalarType, _ numbers: inout [Double], _ count: Int
    ) throws(CairnError) {
        var span = numbers.mutableSpan
        var bytes = span.mutableBytes
        var part = bytes._mutatingExtracting(0..<count * 8)
        try ScalarConversion.convert(source, from: type, into: &part, to: .f64)
    }
}
