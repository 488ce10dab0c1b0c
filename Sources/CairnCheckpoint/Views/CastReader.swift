public import CairnBase
public import CairnTensor

/// Another checkpoint with elements of another type, converted as they are read.
///
/// Floats round to nearest even. Numbers that the new type cannot hold are noted as they are read, in ``losses``. A tensor that
/// is tied to one that keeps its type becomes one by itself.
public struct CastReader: CheckpointReader {
    /// Which tensors are converted.
    public enum Scope: Sendable, Hashable {
        /// Those whose elements are real floating-point numbers.
        case floatingPoint
        /// All.
        case all
    }

    /// How much of a region is converted at once, in bytes of the original type.
    private static let blockByteCount = 1 << 20

    private let base: any CheckpointReader
    private let overflow: OverflowBehavior
    private let ledger = LossLedger()
    public let tensors: [TensorDescription]

    public var format: String { base.format }
    public var source: String { base.source }
    public var values: [NamedValue] { base.values }
    public var structure: StateNode? { base.structure }
    public var losses: [LossNote]? { (base.losses ?? []) + ledger.notes }

    /// Converts the tensors that fit one of the patterns, or any if there are none.
    ///
    /// - Parameter overflow: What becomes of numbers that the new type cannot hold.
    /// - Throws: ``CairnError/Code/unsupported`` for a tensor whose type does not convert, or that is part of a weight in codes
    ///   (``QuantisedWeights``), ``CairnError/Code/notFound`` for a pattern that fits no tensor,
    ///   ``CairnError/Code/invalidArgument`` for an invalid one.
    public init(
        _ base: any CheckpointReader, to scalarType: ScalarType, patterns: [String] = [],
        scope: Scope = .floatingPoint, overflow: OverflowBehavior = .ieee
    ) throws(CairnError) {
        self.base = base
        self.overflow = overflow
        let selected = try PatternList(patterns, applyingTo: base.tensors.map(\.name), of: base.source)
        try QuantisedWeights(in: base.tensors).refuse("a conversion of types", of: base.source) { name in
            patterns.isEmpty || selected.match(name)
        }
        var viewed: [ViewedTensor] = []
        for tensor in base.tensors {
            var description = tensor
            let isInScope = scope == .all || tensor.scalarType.isFloatingPoint
            if isInScope && (patterns.isEmpty || selected.match(tensor.name)) {
                guard ScalarConversion.isSupported(from: tensor.scalarType, to: scalarType) else {
                    throw CairnError(
                        .unsupported, "\(tensor.scalarType) does not convert to \(scalarType)",
                        .init(file: base.source, tensor: tensor.name, advice: "leave this tensor out by patterns"))
                }
                guard scalarType.byteCount(elementCount: tensor.shape.elementCount) != nil else {
                    throw CairnError(
                        .unsupported, "the converted tensor is too large",
                        .init(file: base.source, tensor: tensor.name))
                }
                description.scalarType = scalarType
            }
            viewed.append(ViewedTensor(description: description, originalName: tensor.name))
        }
        tensors = viewed.retied(below: base.tensors).map(\.description)
    }

    public func rankValues() throws(CairnError) -> [RankValues] { try base.rankValues() }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let original = try base.description(of: name)
        let scalarType = try description(of: name).scalarType
        guard original.scalarType != scalarType else {
            return try base.read(name, region: region, into: &destination)
        }
        guard region.isInside(original.shape),
            scalarType.byteCount(elementCount: region.elementCount) == destination.byteCount
        else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor, or its destination has another size",
                .init(
                    file: source, tensor: name, expected: "inside \(original.shape)",
                    found: "\(region), \(destination.byteCount) bytes"))
        }
        var block: [UInt8] = []
        var written = 0
        let whole = TensorDescription(name: name, scalarType: original.scalarType, shape: region.shape)
        for slab in SlabSequence(of: whole, byteLimit: Self.blockByteCount) {
            let part = try Region(offsets: zip(region.offsets, slab.offsets).map { $0 + $1 }, shape: slab.shape)
            let sourceByteCount = try Tensor.byteCount(original.scalarType, slab.shape)
            let byteCount = try Tensor.byteCount(scalarType, slab.shape)
            if block.count < sourceByteCount { block = [UInt8](repeating: 0, count: sourceByteCount) }
            var span = block.mutableSpan
            var bytes = span.mutableBytes
            var input = bytes._mutatingExtracting(0..<sourceByteCount)
            try base.read(name, region: part, into: &input)
            var output = destination._mutatingExtracting(written..<written + byteCount)
            let loss = try ScalarConversion.convertNotingLoss(
                block.span.bytes.extracting(0..<sourceByteCount), from: original.scalarType, into: &output,
                to: scalarType, overflow: overflow)
            ledger.add(
                loss, in: part, of: name, shape: original.shape, from: original.scalarType, to: scalarType)
            written += byteCount
        }
    }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? {
        let isUnchanged = try base.description(of: name).scalarType == description(of: name).scalarType
        return isUnchanged ? try base.mapped(name) : nil
    }
}
