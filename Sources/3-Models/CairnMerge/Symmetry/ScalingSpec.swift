public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Which units of a network may be scaled: what comes in multiplied by a positive number and what goes out divided by it.
///
/// That keeps the function where the units' activation is ReLU or linear, and no normalization lies between.
public struct ScalingSpec: Sendable, Hashable {
    /// An axis of a tensor along which the units of a label lie.
    package struct ScaledAxis: Sendable, Hashable {
        package var tensor: String
        package var axis: Int

        package init(tensor: String, axis: Int) {
            self.tensor = tensor
            self.axis = axis
        }
    }

    /// The weights and biases of the units, by label.
    package var incoming: [String: [ScaledAxis]]
    /// The weights that the units' outputs are multiplied by, by label.
    package var outgoing: [String: [ScaledAxis]]

    package init(incoming: [String: [ScaledAxis]], outgoing: [String: [ScaledAxis]]) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    /// The units of a specification of permutations whose weights are stored as `[outputs, inputs]`.
    ///
    /// - Parameter labels: Those whose units may be scaled; axes where units are more than one element are left out.
    public init(_ spec: PermutationSpec, labels: [String]) {
        var (incoming, outgoing): ([String: [ScaledAxis]], [String: [ScaledAxis]]) = ([:], [:])
        for (tensor, axes) in spec.axes.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            for (index, axis) in axes.enumerated() {
                guard let axis, labels.contains(axis.label), axis.width == 1, axis.repeats == 1 else { continue }
                let scaled = ScaledAxis(tensor: tensor, axis: index)
                if index == 0 {
                    incoming[axis.label, default: []].append(scaled)
                } else {
                    outgoing[axis.label, default: []].append(scaled)
                }
            }
        }
        self.init(incoming: incoming, outgoing: outgoing)
    }

    /// The factors for which the squares of all weights together are least: with them, what comes into a unit is as large as
    /// what goes out, and two networks that differ by scales alone become one.
    ///
    /// Units without anything that comes in, or goes out, keep their scale. Holds the tensors of the specification in double
    /// precision.
    ///
    /// - Returns: For ``ScaledReader``, by label.
    /// - Throws: As ``CheckpointReader/read(_:region:into:)``.
    public func balance(_ reader: any CheckpointReader) throws -> [String: [Double]] {
        var matrices: [String: ScaledMatrix] = [:]
        let scaledAxes = Array(incoming.values.joined()) + Array(outgoing.values.joined())
        for scaled in scaledAxes where matrices[scaled.tensor] == nil {
            matrices[scaled.tensor] = try ScaledMatrix(scaled.tensor, reader)
        }
        let labels = Set(incoming.keys).intersection(outgoing.keys).sorted()
        var scales: [String: [Double]] = [:]
        for label in labels {
            let counts = (incoming[label, default: []] + outgoing[label, default: []]).map { scaled in
                matrices[scaled.tensor]?.extent(scaled.axis) ?? 0
            }
            guard let count = counts.first, counts.allSatisfy({ $0 == count }) else {
                throw CairnError(
                    .mismatch, "the tensors do not agree how many units \"\(label)\" has",
                    .init(file: reader.source, found: "\(counts)"))
            }
            scales[label] = [Double](repeating: 1, count: count)
        }
        // Each step is the best for its label alone, and the whole is convex in the logarithms.
        for _ in 0..<10_000 {
            var greatest = 0.0
            for label in labels {
                var factors = scales[label, default: []].map { _ in 1.0 }
                let into = squares(incoming[label, default: []], matrices, factors.count)
                let out = squares(outgoing[label, default: []], matrices, factors.count)
                for unit in factors.indices where into[unit] > 0 && out[unit] > 0 {
                    factors[unit] = (out[unit] / into[unit]).squareRoot().squareRoot()
                    greatest = max(greatest, abs(factors[unit] - 1))
                    scales[label]?[unit] *= factors[unit]
                }
                for scaled in incoming[label, default: []] { matrices[scaled.tensor]?.scale(scaled.axis, factors) }
                for scaled in outgoing[label, default: []] {
                    matrices[scaled.tensor]?.scale(scaled.axis, factors.map { 1 / $0 })
                }
            }
            if greatest < 1e-12 { break }
        }
        return scales
    }

    private func squares(_ scaledAxes: [ScaledAxis], _ matrices: [String: ScaledMatrix], _ count: Int) -> [Double] {
        var sums = [Double](repeating: 0, count: count)
        for scaled in scaledAxes { matrices[scaled.tensor]?.addSquares(scaled.axis, to: &sums) }
        return sums
    }
}

/// A tensor in memory that is scaled along its axes.
private struct ScaledMatrix {
    private var elements: [Double]
    private let shape: [Int]
    private let strides: [Int]

    init(_ name: String, _ reader: any CheckpointReader) throws {
        let tensor = try reader.tensor(name)
        shape = tensor.shape.extents
        strides = tensor.shape.strides
        elements = try tensor.converted(to: .f64).elements(as: Double.self)
    }

    func extent(_ axis: Int) -> Int { shape.indices.contains(axis) ? shape[axis] : 0 }

    private func unit(_ index: Int, _ axis: Int) -> Int { index / strides[axis] % shape[axis] }

    func addSquares(_ axis: Int, to sums: inout [Double]) {
        for (index, value) in elements.enumerated() { sums[unit(index, axis)] += value * value }
    }

    mutating func scale(_ axis: Int, _ factors: [Double]) {
        for index in elements.indices { elements[index] *= factors[unit(index, axis)] }
    }
}

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
            var bytes = destination.part(begin * width..<(begin + count) * width)
            try Self.convert(bytes.bytes, type, &numbers, count)
            for index in 0..<count {
                for axis in axes {
                    let unit = (begin + index) / strides[axis.axis] % region.shape[axis.axis]
                    numbers[index] *= axis.factors[region.offsets[axis.axis] + unit]
                }
            }
            loss =
                try loss
                + ScalarConversion.convertNotingLoss(
                    numbers.span.bytes.extracting(0..<count * 8), from: .f64, into: &bytes, to: type)
        }
        ledger.add(loss, in: region, of: name, shape: description.shape, from: .f64, to: type)
    }

    private static func convert(
        _ source: RawSpan, _ type: ScalarType, _ numbers: inout [Double], _ count: Int
    ) throws(CairnError) {
        var span = numbers.mutableSpan
        var bytes = span.mutableBytes
        var part = bytes.part(0..<count * 8)
        try ScalarConversion.convert(source, from: type, into: &part, to: .f64)
    }
}
