public import CairnBase
public import CairnCheckpoint
import CairnLayout
public import CairnTensor

/// A checkpoint with partial tensors, read with their sums or means.
///
/// A checkpoint stores every partial value (`Placement.partial`), stacked along a first dimension: gradients that are not yet
/// summed, weights of replicas that drift apart until they are averaged. Through this view each such tensor has its own
/// shape, and its partial values are added in their order, in double precision, as they are read. Everything else is as it was.
public struct ReducedReader: CheckpointView {
    public let tensors: [TensorDescription]
    public let base: any CheckpointReader
    private let reduced: [ExactString: ReducedView]
    private let ledger: LossLedger

    public var losses: [LossNote]? { ledger.notes }
    public var values: [NamedValue] { base.values }

    /// - Throws: ``CairnError/Code/unsupported`` for partial values that are not floating-point numbers, naming the tensor.
    public init(_ reader: CairnReader) throws(CairnError) {
        base = reader
        let ledger = LossLedger()
        self.ledger = ledger
        var reduced: [ExactString: ReducedView] = [:]
        for tensor in reader.manifest.tensors {
            guard let layout = tensor.layout, let reduction = reader.manifest.layouts[layout].reduction else {
                continue
            }
            do throws(CairnError) {
                let partials = try (0..<tensor.shape[0]).map { index throws(CairnError) in
                    try PartialView(reader: reader, stored: tensor, index: index)
                }
                reduced[ExactString(tensor.name)] = try ReducedView(
                    partials, reduction, recorder: LossRecorder(ledger: ledger, tensor: tensor.name))
            } catch {
                throw error.adding(.init(file: reader.source, tensor: tensor.name))
            }
        }
        self.reduced = reduced
        try QuantisedWeights(in: reader.tensors).refuse("a sum of what ranks hold", of: reader.source) { name in
            reduced[ExactString(name)] != nil
        }
        tensors = reader.tensors.map { tensor in
            guard let whole = reduced[ExactString(tensor.tiedTo ?? tensor.name)] else { return tensor }
            return TensorDescription(
                name: tensor.name, scalarType: tensor.scalarType, shape: whole.shape, tiedTo: tensor.tiedTo)
        }
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        reduced[ExactString(try base.description(of: name).tiedTo ?? name)] == nil ? name : nil
    }

    public func requireStored(_ name: String) throws(CairnError) { try base.requireStored(name) }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let target = try base.description(of: name).tiedTo ?? name
        guard let source = reduced[ExactString(target)] else {
            return try base.read(name, region: region, into: &destination)
        }
        do throws(CairnError) {
            try source.read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: base.source, tensor: name))
        }
    }
}

/// One of the stacked partial values of a tensor.
private struct PartialView: TensorView {
    let reader: CairnReader
    let name: String
    let index: Int
    let scalarType: ScalarType
    let shape: Shape

    init(reader: CairnReader, stored: Manifest.StoredTensor, index: Int) throws(CairnError) {
        self.reader = reader
        self.index = index
        name = stored.name
        scalarType = stored.scalarType
        shape = try Shape(checking: Array(stored.shape.extents.dropFirst()))
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let inStack = try Region(
            offsets: [index] + region.offsets, shape: Shape(checking: [1] + region.shape.extents))
        try reader.read(name, region: inStack, into: &destination)
    }
}

extension Layout {
    /// How the ranks' partial values become the tensor, if the placement is partial.
    fileprivate var reduction: Reduction? {
        for step in steps { if case .partial(let reduction) = step.placement { return reduction } }
        return nil
    }
}
