public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Which units of a network may be put in another order, as data: for each axis of each tensor the permutation that acts
/// on it.
///
/// Applying one permutation for each label to every axis with that label leaves the network's function as it is, if the
/// specification is right; ``check(_:tolerance:generator:evaluating:)`` finds out whether it is.
public struct PermutationSpec: Sendable, Hashable {
    /// How units lie along an axis: section by section, in each all units after each other, with as many elements of each as
    /// the section's width says.
    ///
    /// Plain hidden units have one section of width 1. Heads of 64 elements have width 64; in a fused projection to queries,
    /// keys and values they repeat 3 times, and where several heads share keys and values the first section is wider.
    public struct Axis: Sendable, Hashable {
        package var label: String
        /// How many elements each unit has in each section.
        package private(set) var width: Int
        /// How many sections there are.
        package private(set) var repeats: Int
        /// The sections' widths, where they are not all the same.
        package private(set) var widths: [Int]?

        public init(_ label: String, width: Int = 1, repeats: Int = 1) {
            self.label = label
            self.width = width
            self.repeats = repeats
        }

        /// Sections of different widths.
        public init(_ label: String, widths: [Int]) {
            self.init(label, width: widths.first ?? 1, repeats: max(1, widths.count))
            if widths.contains(where: { $0 != width }) { self.widths = widths }
        }

        /// How many elements one unit has in all; `nil` where that is not a number of elements.
        var unitWidth: Int? {
            guard width > 0, repeats > 0 else { return nil }
            guard let widths else { return width.multiplied(checked: repeats) }
            return widths.reduce(Int?(0)) { sum, width in sum.flatMap { width > 0 ? $0.adding(checked: width) : nil } }
        }

        /// The sections' widths. Only of an axis that fits a tensor, which bounds their number.
        private var sections: [Int] { widths ?? [Int](repeating: width, count: repeats) }

        /// The elements of the axis with its units in an order: for each the place that it is taken from.
        func sources(_ order: [Int]) -> [Int] {
            guard !order.isEmpty else { return [] }
            var sources: [Int] = []
            var base = 0
            for width in sections {
                for unit in order { sources += base + unit * width..<base + (unit + 1) * width }
                base += width * order.count
            }
            return sources
        }

        /// The elements of the axis unit by unit.
        func byUnits(count: Int) -> [Int] {
            guard count > 0 else { return [] }
            return (0..<count).flatMap { unit in
                var base = 0
                return sections.flatMap { width in
                    defer { base += width * count }
                    return base + unit * width..<base + (unit + 1) * width
                }
            }
        }
    }

    /// For each tensor what acts on its axes; tensors that are not named, and axes with `nil`, keep their order.
    ///
    /// A tensor that is named with `nil` alone is known to keep its order; of one that is not named at all,
    /// ``requireEveryTensor(in:)`` asks whether that is so.
    package var axes: [String: [Axis?]]
    /// Tensors that are units themselves, such as experts that are stored each by itself: for each label lists of names,
    /// each in the order of the units.
    package var stacks: [String: [[String]]]

    public init(axes: [String: [Axis?]] = [:], stacks: [String: [[String]]] = [:]) {
        self.axes = axes
        self.stacks = stacks
    }

    /// The labels, sorted.
    package var labels: [String] {
        Set(axes.values.joined().compactMap { $0?.label } + stacks.keys).sorted { ExactString($0) < ExactString($1) }
    }

    /// Adds what another one says of other tensors.
    package mutating func merge(_ other: PermutationSpec) {
        axes.merge(other.axes) { first, _ in first }
        stacks.merge(other.stacks) { $0 + $1 }
    }

    /// How many units each label has in a checkpoint.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a tensor that is not there, ``CairnError/Code/mismatch`` for axes that do
    ///   not fit their tensors or do not agree.
    package func unitCounts(in reader: any CheckpointReader) throws(CairnError) -> [String: Int] {
        var counts: [String: Int] = [:]
        func note(_ label: String, _ count: Int, _ tensor: String) throws(CairnError) {
            if let known = counts[label], known != count {
                throw CairnError(
                    .mismatch, "the tensors do not agree how many units \"\(label)\" has",
                    .init(file: reader.source, tensor: tensor, expected: "\(known)", found: "\(count)"))
            }
            guard count <= Tensor.greatestByteCount / MemoryLayout<Int>.stride else {
                throw CairnError(
                    .noSpace, "there are more units than this machine has memory to number",
                    .init(file: reader.source, tensor: tensor, found: "\(count) units"))
            }
            counts[label] = count
        }
        for (name, list) in axes.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            let shape = try reader.description(of: name).shape
            guard list.count == shape.dimensionCount else {
                throw CairnError(
                    .mismatch, "a tensor has another number of axes than the specification",
                    .init(file: reader.source, tensor: name, expected: "\(list.count)", found: "\(shape)"))
            }
            for (dimension, axis) in list.enumerated() {
                guard let axis else { continue }
                guard let divisor = axis.unitWidth, shape[dimension].isMultiple(of: divisor) else {
                    let widths = axis.widths?.map { "\($0)" }.joined(separator: " + ")
                    throw CairnError(
                        .mismatch, "an axis is not a whole number of units",
                        .init(
                            file: reader.source, tensor: name,
                            expected: "a multiple of \(widths ?? "\(axis.repeats) x \(axis.width)") along axis \(dimension)",
                            found: "\(shape)"))
                }
                try note(axis.label, shape[dimension] / divisor, name)
            }
        }
        for (label, lists) in stacks.sorted(by: { $0.key < $1.key }) {
            for names in lists {
                guard let first = names.first else {
                    throw CairnError(.invalidArgument, "a stack has no tensors", .init(found: label))
                }
                let one = try reader.description(of: first)
                for name in names {
                    let other = try reader.description(of: name)
                    guard other.shape == one.shape, other.scalarType == one.scalarType else {
                        throw CairnError(
                            .mismatch, "tensors that are units differ in shape or type",
                            .init(file: reader.source, tensor: name, expected: "\(one.shape)", found: "\(other.shape)"))
                    }
                }
                try note(label, names.count, first)
            }
        }
        return counts
    }

    /// The same for the moments of an optimizer, which are tensors of the same shapes under other names.
    ///
    /// - Parameter name: The name of an optimizer moment, from the weight's.
    public func renamed(_ name: (String) -> String) -> PermutationSpec {
        PermutationSpec(
            axes: Dictionary(axes.map { (name($0.key), $0.value) }, uniquingKeysWith: { first, _ in first }),
            stacks: stacks.mapValues { $0.map { $0.map(name) } })
    }
}

/// For each label of a ``PermutationSpec`` an order of its units: unit `i` of the result is unit `order[i]` of the source.
public struct UnitPermutations: Sendable, Hashable {
    package var orders: [String: [Int]]

    public init(_ orders: [String: [Int]] = [:]) { self.orders = orders }

    /// Orders at random.
    package init(
        randomFor spec: PermutationSpec, in reader: any CheckpointReader, using generator: inout some RandomNumberGenerator
    ) throws(CairnError) {
        var orders: [String: [Int]] = [:]
        for (label, count) in try spec.unitCounts(in: reader).sorted(by: { $0.key < $1.key }) {
            orders[label] = Array(0..<count).shuffled(using: &generator)
        }
        self.orders = orders
    }

    /// What undoes them.
    public var inverse: UnitPermutations {
        UnitPermutations(
            orders.mapValues { order in
                var inverse = [Int](repeating: 0, count: order.count)
                for (index, unit) in order.enumerated() { inverse[unit] = index }
                return inverse
            })
    }

    /// As a value that a checkpoint can hold.
    public var value: Value {
        .dictionary(orders.mapValues { .list($0.map { .integer(Int64($0)) }) })
    }

    /// - Throws: ``CairnError/Code/malformed`` for what is not a permutation.
    public init(_ value: Value) throws(CairnError) {
        guard case .dictionary(let dictionary) = value else {
            throw CairnError(.malformed, "permutations are a dictionary")
        }
        var orders: [String: [Int]] = [:]
        for (label, value) in dictionary {
            var order: [Int] = []
            if case .list(let list) = value {
                for case .integer(let unit) in list { order.append(Int(clamping: unit)) }
                guard order.count == list.count else { throw Self.noOrder(label) }
            }
            orders[label] = order
            guard order.sorted() == Array(0..<order.count), case .list = value else { throw Self.noOrder(label) }
        }
        self.orders = orders
    }

    private static func noOrder(_ label: String) -> CairnError {
        CairnError(.malformed, "it is not an order of units", .init(found: label))
    }
}

extension PermutationSpec {
    /// How far outputs were apart in a check, in which label's check.
    public struct Deviation: Sendable, Hashable {
        /// The label that was rearranged by itself; `nil` for all at once.
        public var label: String?
        /// The greatest difference of outputs, relative to the greatest output.
        public var relative: Double
    }

    /// Whether a network computes the same with its units in random orders, each label by itself and all at once.
    ///
    /// - Parameters:
    ///   - tolerance: How far outputs may be apart, relative to the greatest.
    ///   - evaluate: The network's outputs, on whatever inputs, for weights that it reads.
    /// - Returns: What went beyond the tolerance, the worst first; nothing for a right specification.
    /// - Throws: ``CairnError/Code/notFound`` for a tensor that is not there, ``CairnError/Code/mismatch`` for axes that do
    ///   not fit their tensors or do not agree; what `evaluate` throws.
    public func check(
        _ reader: any CheckpointReader, tolerance: Double = 1e-4, generator: inout some RandomNumberGenerator,
        evaluating evaluate: (any CheckpointReader) throws -> [Double]
    ) throws -> [Deviation] {
        let expected = try evaluate(reader)
        let scale = max(expected.lazy.map(abs).max() ?? 0, .leastNormalMagnitude)
        let all = try UnitPermutations(randomFor: self, in: reader, using: &generator)
        var deviations: [Deviation] = []
        for label in labels.map(Optional.some) + [nil] {
            let chosen = label.map { label in UnitPermutations(all.orders.filter { $0.key == label }) } ?? all
            let outputs = try evaluate(PermutedReader(reader, chosen, by: self))
            guard outputs.count == expected.count else {
                throw CairnError(
                    .mismatch, "the network has another number of outputs with its units rearranged",
                    .init(expected: "\(expected.count)", found: "\(outputs.count)"))
            }
            let worst = zip(outputs, expected).reduce(0.0) { worst, pair in
                let difference = abs(pair.0 - pair.1) / scale
                return difference.isNaN ? .infinity : max(worst, difference)
            }
            if worst > tolerance { deviations.append(Deviation(label: label, relative: worst)) }
        }
        return deviations.sorted { $0.relative > $1.relative }
    }
}

extension PermutationSpec {
    /// Makes sure that nothing is left behind: every tensor with an axis as long as one that is rearranged is named, as
    /// rearranged or, with `nil` for its axes, as keeping its order.
    ///
    /// A norm or a bias along the residual stream that a specification forgets would stay as it is while everything around
    /// it moves, and the network would compute something else.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` that names the tensors; ``CairnError/Code/notFound`` for a tensor that is not
    ///   there, ``CairnError/Code/mismatch`` for axes that do not fit their tensors.
    public func requireEveryTensor(in reader: any CheckpointReader) throws(CairnError) {
        let counts = try unitCounts(in: reader)
        // A label of one unit moves nothing.
        let moving = Set(counts.filter { $0.value > 1 }.keys)
        var lengths = Set<Int>()
        for (name, axes) in axes {
            let shape = try reader.description(of: name).shape
            for (dimension, axis) in axes.enumerated() {
                if let axis, moving.contains(axis.label) { lengths.insert(shape[dimension]) }
            }
        }
        var named = Set((Array(axes.keys) + stacks.values.joined().joined()).map { ExactString($0) })
        // One tensor under several names moves as any of them says.
        for tensor in reader.tensors {
            guard let target = tensor.tiedTo else { continue }
            if named.contains(ExactString(tensor.name)) { named.insert(ExactString(target)) }
        }
        let left = reader.tensors.filter { tensor in
            tensor.shape.extents.contains(where: lengths.contains) && !named.contains(ExactString(tensor.name))
                && !(tensor.tiedTo.map { named.contains(ExactString($0)) } ?? false)
        }
        guard let first = left.first else { return }
        let list = left.prefix(4).map { "\($0.name) \($0.shape)" }.joined(separator: ", ")
        throw CairnError(
            .unsupported, "nothing says whether tensors move that have an axis as long as one that is rearranged",
            .init(
                file: reader.source, tensor: first.name,
                expected: "every such tensor named as rearranged or as fixed",
                found: list + (left.count > 4 ? ", … (\(left.count) tensors)" : ""),
                advice: "name them in a specification, with null for axes that keep their order; rearrange what belongs to "
                    + "weights by --along; or leave them out by --exclude"))
    }
}
