public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Another checkpoint with units of its network in another order, rearranged as they are read.
///
/// Tensors that are one in the source stay one unless they are rearranged in different ways, such as experts that are
/// copies of each other; then each is a tensor by itself.
public struct PermutedReader: CheckpointView {
    /// An axis whose elements are taken from elsewhere.
    private struct Gather: Sendable, Equatable {
        let dimension: Int
        /// For each index of the result the one of the source.
        let sources: [Int]
    }

    /// How much is read at once to be picked from, where a row is not more.
    private static let blockByteCount = 1 << 20

    public let base: any CheckpointReader
    private let gathers: [ExactString: [Gather]]
    /// For tensors that are units themselves, which one stands in their place.
    private let replaced: [ExactString: String]
    public let tensors: [TensorDescription]

    public var values: [NamedValue] { base.values }
    public var structure: StateNode? { base.structure }

    /// - Throws: ``CairnError/Code/notFound`` for a tensor that is not there; ``CairnError/Code/mismatch`` for axes that do not
    ///   fit their tensors or do not agree, an order of another number of units, or an axis of packed elements;
    ///   ``CairnError/Code/unsupported`` for weights in codes with scales beside them.
    public init(
        _ base: any CheckpointReader, _ permutations: UnitPermutations, by spec: PermutationSpec
    ) throws(CairnError) {
        self.base = base
        let counts = try spec.unitCounts(in: base)
        let named = Set((Array(spec.axes.keys) + spec.stacks.values.joined().joined()).map { ExactString($0) })
        try QuantisedWeights(in: base.tensors).refuse("another order of units", of: base.source) { name in
            named.contains(ExactString(name))
        }
        for (label, order) in permutations.orders {
            let count = counts[label] ?? 0
            guard counts[label] != nil, order.sorted() == Array(0..<count) else {
                throw CairnError(
                    .mismatch, "the order of \"\(label)\" is not a permutation of its units",
                    .init(file: base.source, expected: "\(count) units", found: "\(order.count)"))
            }
        }
        var gathers: [ExactString: [Gather]] = [:]
        for (name, axes) in spec.axes {
            let description = try base.description(of: name)
            var own: [Gather] = []
            for (dimension, axis) in axes.enumerated() {
                guard let axis, let order = permutations.orders[axis.label],
                    order != Array(0..<order.count)
                else { continue }
                guard !description.scalarType.isPacked else {
                    throw CairnError(
                        .unsupported, "packed elements are not rearranged", .init(file: base.source, tensor: name))
                }
                own.append(Gather(dimension: dimension, sources: axis.sources(order)))
            }
            gathers[ExactString(name)] = own
        }
        var replaced: [ExactString: String] = [:]
        for (label, lists) in spec.stacks {
            guard let order = permutations.orders[label] else { continue }
            for names in lists {
                for (index, name) in names.enumerated() { replaced[ExactString(name)] = names[order[index]] }
            }
        }
        let ties = base.tensors.compactMap { tensor in tensor.tiedTo.map { (name: tensor.name, target: $0) } }
        // What is said of one name of a tensor holds for the others of which nothing is said.
        for (one, other) in ties.map({ ($0.name, $0.target) }) + ties.map({ ($0.target, $0.name) }) {
            let (known, open) = (ExactString(one), ExactString(other))
            if gathers[open] == nil { gathers[open] = gathers[known] }
            if replaced[open] == nil { replaced[open] = replaced[known] }
        }
        let targets = Dictionary(
            ties.map { (ExactString($0.name), ExactString($0.target)) }, uniquingKeysWith: { first, _ in first })
        tensors = base.tensors.map { tensor in
            guard let target = tensor.tiedTo else { return tensor }
            let one = replaced[ExactString(tensor.name)] ?? tensor.name, other = replaced[ExactString(target)] ?? target
            func kept(_ name: String) -> ExactString { targets[ExactString(name)] ?? ExactString(name) }
            guard kept(one) == kept(other), gathers[ExactString(one)] ?? [] == gathers[ExactString(other)] ?? [] else {
                return TensorDescription(name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape)
            }
            return tensor
        }
        self.gathers = gathers.filter { !$0.value.isEmpty }
        self.replaced = replaced
    }

    /// The tensor of the source that has the elements of this one, perhaps in another order.
    private func original(of description: TensorDescription) -> String {
        let own = ExactString(description.tiedTo ?? description.name)
        return replaced[own] ?? own.string
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        let original = try original(of: description(of: name))
        return gathers[ExactString(original)] == nil ? original : nil
    }

    public func requireStored(_ name: String) throws(CairnError) {
        try base.requireStored(original(of: description(of: name)))
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let description = try description(of: name)
        let original = original(of: description)
        // What lies within the units of a stack moves as its tensor in the source has it.
        guard let axes = gathers[ExactString(original)], region.elementCount > 0,
            region.isInside(description.shape)
        else { return try base.read(original, region: region, into: &destination) }
        try read(description, original, region, axes, into: &destination)
    }

    private func read(
        _ description: TensorDescription, _ original: String, _ region: Region, _ axes: [Gather],
        into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let width = description.scalarType.byteWidth ?? 1
        do throws(CairnError) {
            try region.check(inside: description.shape, of: description.scalarType, filling: destination.byteCount)
        } catch {
            throw error.adding(.init(file: source, tensor: description.name))
        }
        var sources = region.offsets.indices.map { dimension in
            Array(region.offsets[dimension]..<region.offsets[dimension] + region.shape[dimension])
        }
        for axis in axes {
            let range = region.offsets[axis.dimension]..<region.offsets[axis.dimension] + region.shape[axis.dimension]
            sources[axis.dimension] = Array(axis.sources[range])
        }
        // The first dimension goes in runs that lie together; in the others the smallest box that holds all is read.
        let rest = (1..<max(1, region.shape.dimensionCount)).map { dimension in
            (first: sources[dimension].min() ?? 0, end: (sources[dimension].max() ?? -1) + 1)
        }
        let rowByteCount = rest.reduce(width) { $0 * ($1.end - $1.first) }
        let greatestRows = max(1, Self.blockByteCount / max(1, rowByteCount))
        let rowElements = region.elementCount / max(1, region.shape[0])
        let offsets = Self.offsets(sources, rest, width)
        var block: [UInt8] = []
        var row = 0
        while row < region.shape[0] {
            var end = row + 1
            while end < region.shape[0], end - row < greatestRows, sources[0][end] == sources[0][end - 1] + 1 { end += 1 }
            let part = try Region(
                offsets: [sources[0][row]] + rest.map(\.first),
                shape: Shape(checking: [end - row] + rest.map { $0.end - $0.first }))
            let byteCount = (end - row) * rowByteCount
            if block.count < byteCount { block = [UInt8](repeating: 0, count: byteCount) }
            var span = block.mutableSpan
            var bytes = span.mutableBytes
            var target = bytes.part(0..<byteCount)
            try base.read(original, region: part, into: &target)
            var output = destination.part(row * rowElements * width..<end * rowElements * width)
            Self.pick(block, rowByteCount, offsets, width, rows: end - row, into: &output)
            row = end
        }
    }

    /// Where in a row that is read the elements of a row of the result are, in bytes.
    private static func offsets(_ sources: [[Int]], _ rest: [(first: Int, end: Int)], _ width: Int) -> [Int] {
        var strides = [Int](repeating: width, count: rest.count)
        for dimension in strides.indices.dropLast().reversed() {
            strides[dimension] = strides[dimension + 1] * (rest[dimension + 1].end - rest[dimension + 1].first)
        }
        var offsets = [0]
        for (dimension, range) in rest.enumerated() {
            offsets = offsets.flatMap { offset in
                sources[dimension + 1].map { offset + ($0 - range.first) * strides[dimension] }
            }
        }
        return offsets
    }

    private static func pick(
        _ block: [UInt8], _ rowByteCount: Int, _ offsets: [Int], _ width: Int, rows: Int,
        into output: inout MutableRawSpan
    ) {
        let isRun = offsets.indices.allSatisfy { offsets[$0] == offsets[0] + $0 * width }
        block.withUnsafeBytes { from in
            output.withUnsafeMutableBytes { to in
                guard let source = from.baseAddress, let target = to.baseAddress, !offsets.isEmpty else { return }
                for row in 0..<rows {
                    let begin = source + row * rowByteCount, rowTarget = target + row * offsets.count * width
                    if isRun {
                        rowTarget.copyMemory(from: begin + offsets[0], byteCount: offsets.count * width)
                    } else {
                        for (index, offset) in offsets.enumerated() {
                            (rowTarget + index * width).copyMemory(from: begin + offset, byteCount: width)
                        }
                    }
                }
            }
        }
    }
}
