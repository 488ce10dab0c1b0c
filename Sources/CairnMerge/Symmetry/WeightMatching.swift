public import CairnBase
public import CairnCheckpoint
import CairnTensor

/// Finds the order of the units of one network in which its weights are most like another's.
///
/// Coordinate descent after Ainsworth, Hayase and Srinivasa ("Git Re-Basin", ICLR 2023): one label after another gets the
/// best order given those of all others, until none gets a better one.
public struct WeightMatching: Sendable {
    /// What was found.
    public struct Result: Sendable {
        /// For ``PermutedReader`` over the second checkpoint.
        public var permutations: UnitPermutations
        /// The sum of the products of matched weights, before and after every sweep.
        public var similarities: [Double]
        /// Whether the last sweep found nothing better.
        public var isSettled: Bool
    }

    private let spec: PermutationSpec
    /// The most sweeps over all labels.
    public var sweepLimit = 100

    /// - Throws: ``CairnError/Code/unsupported`` for a specification in which one label acts on two axes of one tensor, for
    ///   which the best order is no assignment.
    public init(_ spec: PermutationSpec) throws(CairnError) {
        for (name, axes) in spec.axes {
            let labels = axes.compactMap { $0?.label }
            guard Set(labels).count == labels.count else {
                throw CairnError(
                    .unsupported, "one permutation acts on two axes of a tensor",
                    .init(tensor: name, advice: "leave that label in its order"))
            }
        }
        self.spec = spec
    }

    /// Matches the units of `second` to those of `first`.
    ///
    /// Holds the tensors of the specification, of both, in single precision.
    ///
    /// - Parameter generator: Draws the order in which labels are visited.
    /// - Throws: As ``PermutationSpec/unitCounts(in:)``, and what reading throws; ``CairnError/Code/invalidArgument``, naming
    ///   the label, for weights that are not finite.
    public func match(
        _ second: any CheckpointReader, to first: any CheckpointReader, using generator: inout some RandomNumberGenerator
    ) throws -> Result {
        let counts = try spec.unitCounts(in: first)
        guard try spec.unitCounts(in: second) == counts else {
            throw CairnError(
                .mismatch, "the two checkpoints have different numbers of units",
                .init(file: second.source, expected: first.source))
        }
        let labels = spec.labels
        var places: [String: [MatchedAxis]] = [:]
        for (name, axes) in spec.axes.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            // A tied tensor is one with the other, which is matched already if it is named.
            if let tied = try first.description(of: name).tiedTo, spec.axes[tied] != nil { continue }
            let pair = try MatchedPair(name, axes, first, second)
            for (dimension, axis) in axes.enumerated() {
                if let axis { places[axis.label, default: []].append(MatchedAxis(pair, dimension, axis)) }
            }
        }
        for (label, lists) in spec.stacks.sorted(by: { $0.key < $1.key }) {
            for names in lists {
                places[label, default: []].append(
                    MatchedAxis(try MatchedPair(stack: names, spec.axes, first, second), 0, .init(label)))
            }
        }
        var orders = counts.mapValues { Array(0..<$0) }
        var total = 0.0
        var isSettled = false
        var similarities: [Double] = []
        for sweep in 0..<max(1, sweepLimit) {
            var improves = false
            for label in labels.shuffled(using: &generator) {
                let count = counts[label] ?? 0
                let old = orders[label] ?? []
                var gains: [Double], best: [Int]
                do {
                    gains = try LinearAssignment.gains(count: count)
                    for place in places[label] ?? [] { try place.add(to: &gains, count: count, orders: orders) }
                    best = try LinearAssignment.maximizing(gains, count: count)
                } catch let error as CairnError {
                    throw error.adding(.init(file: "\(first.source), \(second.source)", tensor: label))
                }
                func sum(_ order: [Int]) -> Double {
                    order.enumerated().reduce(0) { $0 + gains[$1.offset * count + $1.element] }
                }
                let before = sum(old), after = sum(best)
                if similarities.isEmpty { similarities.append(before) }
                // Differences of rounding are no improvement.
                if after > before + 1e-9 * max(1, abs(before)) {
                    orders[label] = best
                    improves = true
                    total += after - before
                }
            }
            if sweep == 0 { total += similarities.first ?? 0 }
            similarities.append(total)
            if !improves {
                isSettled = true
                break
            }
        }
        return Result(
            permutations: UnitPermutations(orders), similarities: similarities, isSettled: isSettled)
    }
}

/// One tensor of both checkpoints in memory.
private final class MatchedPair: Sendable {
    let first: [Float]
    let second: [Float]
    let shape: [Int]
    let axes: [PermutationSpec.Axis?]

    init(
        _ name: String, _ axes: [PermutationSpec.Axis?], _ first: any CheckpointReader, _ second: any CheckpointReader
    ) throws {
        self.first = try Self.elements(name, first)
        self.second = try Self.elements(name, second)
        shape = try first.description(of: name).shape.extents
        self.axes = axes
    }

    /// Tensors that are units, one behind the other.
    init(
        stack names: [String], _ axes: [String: [PermutationSpec.Axis?]], _ first: any CheckpointReader,
        _ second: any CheckpointReader
    ) throws {
        self.first = try names.flatMap { try Self.elements($0, first) }
        self.second = try names.flatMap { try Self.elements($0, second) }
        shape = [names.count] + (try first.description(of: names[0]).shape.extents)
        // Orders that all units have in common move along; those of single units do not compare.
        let own = axes[names[0]] ?? []
        let isCommon = names.allSatisfy { axes[$0] ?? [] == own }
        self.axes = [.init("")] + (isCommon && !own.isEmpty ? own : shape.dropFirst().map { _ in nil })
    }

    private static func elements(_ name: String, _ reader: any CheckpointReader) throws -> [Float] {
        try reader.tensor(name).converted(to: .f32).elements(as: Float.self)
    }
}

/// An axis whose units are matched.
private struct MatchedAxis {
    private let pair: MatchedPair
    private let dimension: Int
    private let axis: PermutationSpec.Axis

    init(_ pair: MatchedPair, _ dimension: Int, _ axis: PermutationSpec.Axis) {
        self.pair = pair
        self.dimension = dimension
        self.axis = axis
    }

    /// Adds to `gains` how much the elements of each unit of the first are like those of each of the second, all other
    /// axes in their present order.
    func add(to gains: inout [Double], count: Int, orders: [String: [Int]]) throws {
        guard count > 0, !pair.first.isEmpty else { return }
        let length = pair.first.count / count
        let first = unfolded(pair.first, count, orders: [:]), second = unfolded(pair.second, count, orders: orders)
        try UnitProducts.add(first, second, count: count, length: length, to: &gains)
    }

    /// The elements unit by unit, the other axes in given orders.
    private func unfolded(_ elements: [Float], _ count: Int, orders: [String: [Int]]) -> [Float] {
        let shape = pair.shape
        var strides = [Int](repeating: 1, count: shape.count)
        for index in shape.indices.dropLast().reversed() { strides[index] = strides[index + 1] * shape[index + 1] }
        // For each other axis the offsets of its elements in their order.
        var offsets = [0]
        for (index, extent) in shape.enumerated() where index != dimension {
            var sources = Array(0..<extent)
            if let other = pair.axes[index], let order = orders[other.label] {
                sources = (0..<other.repeats).flatMap { part in
                    order.flatMap { unit in
                        (0..<other.width).map { (part * order.count + unit) * other.width + $0 }
                    }
                }
            }
            let steps = sources.map { $0 * strides[index] }
            offsets = offsets.flatMap { offset in steps.map { offset + $0 } }
        }
        let step = strides[dimension]
        return [Float](unsafeUninitializedCapacity: elements.count) { result, written in
            elements.withUnsafeBufferPointer { elements in
                for unit in 0..<count {
                    for part in 0..<axis.repeats {
                        for within in 0..<axis.width {
                            let base = ((part * count + unit) * axis.width + within) * step
                            for offset in offsets {
                                result[written] = elements[base + offset]
                                written += 1
                            }
                        }
                    }
                }
            }
        }
    }
}
