import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// The tensors of two checkpoints of one network, and how alike they are for given orders of the second one's units.
struct MatchedNetwork {
    /// The best order of a label, given all others.
    struct Step {
        /// The sum of the products of the weights that the label acts on, as they are and with `orders`.
        var before: Double
        var after: Double
        /// The label's, and those of labels that belong to single units of it.
        var orders: [String: [Int]]
    }

    /// An axis along which the units of a label lie.
    private struct LabelledAxis {
        let tensor: String
        let dimension: Int
    }

    /// Where a tensor that is a unit itself stands.
    private struct Membership {
        let label: String
        let names: [String]
        let index: Int
    }

    private let tensors: [String: MatchedTensor]
    private let labelledAxes: [String: [LabelledAxis]]
    private let members: [String: Membership]
    private let stacks: [String: [[String]]]
    /// For each label of a stack and each of its units the labels that lie within this unit alone.
    private let inner: [String: [[String]]]

    init(_ spec: PermutationSpec, _ first: any CheckpointReader, _ second: any CheckpointReader) throws {
        var members: [String: Membership] = [:]
        for (label, lists) in spec.stacks {
            for names in lists {
                for (index, name) in names.enumerated() {
                    members[name] = Membership(label: label, names: names, index: index)
                }
            }
        }
        var tensors: [String: MatchedTensor] = [:]
        var labelledAxes: [String: [LabelledAxis]] = [:]
        /// For each label the units that its tensors belong to, `nil` for what lies outside all stacks.
        var homes: [String: Set<Home?>] = [:]
        // What keeps its order says nothing of others.
        let moved = spec.axes.filter { $0.value.contains { $0 != nil } }
        for name in Set(moved.keys).union(members.keys).sorted(by: { ExactString($0) < ExactString($1) }) {
            let axes = moved[name]
            // A tied tensor is one with the other, which is matched already if it is named.
            let tied = try first.description(of: name).tiedTo
            if members[name] == nil, let tied, moved[tied] != nil { continue }
            let tensor = try MatchedTensor(name, axes, first, second)
            tensors[name] = tensor
            for (dimension, axis) in tensor.axes.enumerated() {
                guard let axis else { continue }
                labelledAxes[axis.label, default: []].append(LabelledAxis(tensor: name, dimension: dimension))
                homes[axis.label, default: []].insert(members[name].map { Home(label: $0.label, unit: $0.index) })
            }
        }
        var inner: [String: [[String]]] = [:]
        for (label, lists) in spec.stacks {
            inner[label] = (0..<(lists.first?.count ?? 0)).map { unit in
                homes.filter { $0.value == [Home(label: label, unit: unit)] }.map(\.key).sorted()
            }
        }
        self.tensors = tensors
        self.labelledAxes = labelledAxes
        self.members = members
        self.inner = inner
        stacks = spec.stacks
    }

    private struct Home: Hashable {
        let label: String
        let unit: Int
    }

    /// The sum of the products of all weights.
    func similarity(_ orders: [String: [Int]]) -> Double {
        tensors.keys.sorted { ExactString($0) < ExactString($1) }.reduce(0) { sum, name in
            guard let second = tensors[name], let first = partner(of: name, orders) else { return sum }
            return sum + second.product(with: first, orders)
        }
    }

    /// The tensor of the first checkpoint that stands where one of the second does.
    private func partner(of name: String, _ orders: [String: [Int]]) -> MatchedTensor? {
        guard let member = members[name], let labelledAxis = orders[member.label]?.firstIndex(of: member.index) else {
            return tensors[name]
        }
        return tensors[member.names[labelledAxis]]
    }

    func step(_ label: String, count: Int, _ orders: [String: [Int]]) throws -> Step {
        var gains = try LinearAssignment.gains(count: count)
        for labelledAxis in labelledAxes[label] ?? [] {
            guard let second = tensors[labelledAxis.tensor], let first = partner(of: labelledAxis.tensor, orders) else {
                continue
            }
            try second.add(to: &gains, along: labelledAxis.dimension, count: count, with: first, orders)
        }
        let old = orders[label] ?? []
        func sum(_ order: [Int]) -> Double {
            order.enumerated().reduce(0) { $0 + gains[$1.offset * count + $1.element] }
        }
        guard let lists = stacks[label] else {
            let best = try LinearAssignment.maximizing(gains, count: count)
            return Step(before: sum(old), after: sum(best), orders: [label: best])
        }
        // What lies within units may take a better order with each other unit that one stands for.
        var before = sum(old)
        for (unit, other) in old.enumerated() { before += product(unit, other, lists, orders) }
        var within: [[String: [Int]]] = []
        for unit in 0..<count {
            for other in 0..<count {
                let own = try innerOrders(unit, other, label, lists, orders)
                gains[unit * count + other] += product(unit, other, lists, orders.merging(own) { $1 })
                within.append(own)
            }
        }
        let best = try LinearAssignment.maximizing(gains, count: count)
        var changed = [label: best]
        for (unit, other) in best.enumerated() { changed.merge(within[unit * count + other]) { $1 } }
        return Step(before: before, after: sum(best), orders: changed)
    }

    /// The sum of the products of a unit of the first checkpoint with one of the second.
    private func product(_ unit: Int, _ other: Int, _ lists: [[String]], _ orders: [String: [Int]]) -> Double {
        lists.reduce(0) { sum, names in
            guard let first = tensors[names[unit]], let second = tensors[names[other]] else { return sum }
            return sum + second.product(with: first, orders)
        }
    }

    /// The best orders of what lies within a unit of the second checkpoint, if it stands for a unit of the first.
    private func innerOrders(
        _ unit: Int, _ other: Int, _ label: String, _ lists: [[String]], _ orders: [String: [Int]]
    ) throws -> [String: [Int]] {
        var found: [String: [Int]] = [:]
        for own in inner[label]?[other] ?? [] {
            let count = orders[own]?.count ?? 0
            var gains = try LinearAssignment.gains(count: count)
            let present = orders.merging(found) { $1 }
            for labelledAxis in labelledAxes[own] ?? [] {
                guard let second = tensors[labelledAxis.tensor], let member = members[labelledAxis.tensor],
                    let first = tensors[member.names[unit]]
                else { continue }
                try second.add(to: &gains, along: labelledAxis.dimension, count: count, with: first, present)
            }
            found[own] = try LinearAssignment.maximizing(gains, count: count)
        }
        return found
    }
}

/// A tensor of both checkpoints in memory.
private final class MatchedTensor: Sendable {
    let first: [Float]
    let second: [Float]
    let shape: [Int]
    let axes: [PermutationSpec.Axis?]

    init(
        _ name: String, _ axes: [PermutationSpec.Axis?]?, _ first: any CheckpointReader, _ second: any CheckpointReader
    ) throws {
        let (one, other) = (try first.description(of: name).shape, try second.description(of: name).shape)
        guard one == other else {
            throw CairnError(
                .mismatch, "a tensor has another shape than in the network that it is matched to",
                .init(file: second.source, tensor: name, expected: "\(one) as in \(first.source)", found: "\(other)"))
        }
        self.first = try Self.elements(name, first)
        self.second = try Self.elements(name, second)
        shape = one.extents
        self.axes = axes ?? shape.map { _ in nil }
    }

    private static func elements(_ name: String, _ reader: any CheckpointReader) throws -> [Float] {
        try reader.tensor(name).converted(to: .f32).elements(as: Float.self)
    }

    /// Adds to `gains` how much the elements of each unit of the first are like those of each of the second, all other
    /// axes in their present order.
    func add(
        to gains: inout [Double], along dimension: Int, count: Int, with partner: MatchedTensor,
        _ orders: [String: [Int]]
    ) throws {
        guard count > 0, !second.isEmpty else { return }
        try UnitProducts.add(
            unfolded(partner.first, dimension, count, orders: [:]), unfolded(second, dimension, count, orders: orders),
            count: count, length: second.count / count, to: &gains)
    }

    /// The sum of the products with a tensor of the first checkpoint, all axes in their present order.
    func product(with partner: MatchedTensor, _ orders: [String: [Int]]) -> Double {
        guard !second.isEmpty else { return 0 }
        let dimension = axes.firstIndex { $0 != nil } ?? 0
        let order: [Int]
        if axes.indices.contains(dimension), let axis = axes[dimension], let own = orders[axis.label] {
            order = own
        } else {
            order = [0]
        }
        let length = second.count / order.count
        let one = unfolded(partner.first, dimension, order.count, orders: [:])
        let other = unfolded(second, dimension, order.count, orders: orders)
        return one.withUnsafeBufferPointer { one in
            other.withUnsafeBufferPointer { other in
                guard let a = one.baseAddress, let b = other.baseAddress else { return 0 }
                return order.enumerated().reduce(0.0) { sum, pair in
                    sum + cairn_merge_dot(kernelLevel, 0, a + pair.offset * length, b + pair.element * length, length)
                }
            }
        }
    }

    /// The elements unit by unit, the other axes in given orders; all of them where no units lie along the axis.
    private func unfolded(_ elements: [Float], _ dimension: Int, _ count: Int, orders: [String: [Int]]) -> [Float] {
        guard axes.indices.contains(dimension), let axis = axes[dimension] else { return elements }
        var strides = [Int](repeating: 1, count: shape.count)
        for index in shape.indices.dropLast().reversed() { strides[index] = strides[index + 1] * shape[index + 1] }
        // For each other axis the offsets of its elements in their order.
        var offsets = [0]
        for (index, extent) in shape.enumerated() where index != dimension {
            var sources = Array(0..<extent)
            if let other = axes[index], let order = orders[other.label] {
                sources = other.sources(order)
            }
            let steps = sources.map { $0 * strides[index] }
            offsets = offsets.flatMap { offset in steps.map { offset + $0 } }
        }
        let step = strides[dimension]
        return [Float](unsafeUninitializedCapacity: elements.count) { result, written in
            elements.withUnsafeBufferPointer { elements in
                for labelledAxis in axis.byUnits(count: count) {
                    for offset in offsets {
                        result[written] = elements[labelledAxis * step + offset]
                        written += 1
                    }
                }
            }
        }
    }
}
