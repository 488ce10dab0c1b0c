import CairnBase
import CairnCheckpoint
package import CairnTensor

/// The optimizer's state of a checkpoint without ZeRO, whole in the model's file.
///
/// It has numbers instead of names for parameters, or one flat buffer a group: ``ParameterOrder`` finds the names.
struct DeepSpeedWholeOptimizer {
    private let model: DeepSpeedState
    private let weights: [(name: String, content: any TensorView)]
    private(set) var skippedEntries: [String] = []

    private static let root: StateKey = "optimizer"

    /// - Parameter weights: The parameters that are trained, in the model's order.
    init(_ model: DeepSpeedState, weights: [(name: String, content: any TensorView)]) {
        self.model = model
        self.weights = weights
    }

    /// The path of what the optimizer has: inside that of 16-bit weights there is the real one.
    var optimizerPath: [StateKey] {
        let inner: [StateKey] = [Self.root, "optimizer_state_dict"]
        return model.contents.tensors.contains { $0.path.starts(with: inner) } ? inner : [Self.root]
    }

    /// Adds the weights as `.fp32` and the states of the parameters.
    mutating func add(to rank: inout DeepSpeedRank) throws(CairnError) {
        if model.tensor(Self.root, "fp32_groups_flat", 0) != nil { return try addFlat(to: &rank) }
        let isMixed = model.tensor(Self.root, "fp32_groups", 0, 0) != nil
        var numbers: [[Int]] = []
        while true {
            let group = self.numbers(numbers.count)
            if group.isEmpty { break }
            numbers.append(group)
        }
        let states = statesByNumber()
        var shapes: [[Shape?]] = []
        for (group, members) in numbers.enumerated() {
            shapes.append(
                members.enumerated().map { position, number in
                    isMixed
                        ? model.tensor(Self.root, "fp32_groups", .index(group), .index(position))?.shape
                        : states[number]?.first { $0.content.shape.dimensionCount > 0 }?.content.shape
                })
        }
        guard let order = ParameterOrder.match(parameters: weights.map(\.content.shape), groups: shapes) else {
            if !isMixed { for weight in weights { rank.add(weight.content, weight.name, "fp32") } }
            if !numbers.isEmpty {
                skippedEntries.append(
                    "which parameters the optimizer's numbers stand for cannot be told by their order and shapes: "
                        + "its state is left out")
            }
            return
        }
        rank.groups = order.map { positions in
            positions.map { DeepSpeedParameter(name: weights[$0].name, shape: weights[$0].content.shape) }
        }
        if !isMixed { for weight in weights { rank.add(weight.content, weight.name, "fp32") } }
        for (group, members) in numbers.enumerated() {
            for (position, number) in members.enumerated() {
                let weight = weights[order[group][position]]
                if isMixed, let content = model.tensor(Self.root, "fp32_groups", .index(group), .index(position)) {
                    rank.add(content, weight.name, "fp32")
                }
                for state in states[number] ?? [] where state.content.shape == weight.content.shape {
                    rank.add(state.content, weight.name, state.name)
                }
            }
        }
    }

    /// The number of the first parameter of each group; flat buffers are numbered as the groups are.
    func firstNumbers() -> [Int]? {
        guard model.tensor(Self.root, "fp32_groups_flat", 0) == nil else { return nil }
        var found: [Int] = []
        while let number = numbers(found.count).first { found.append(number) }
        return found
    }

    /// The numbers of a group's parameters.
    private func numbers(_ group: Int) -> [Int] {
        var found: [Int] = []
        while let number = model.integer(
            at: optimizerPath + ["param_groups", .index(group), "params", .index(found.count)])
        {
            found.append(number)
        }
        return found
    }

    /// The tensors of each number's state but for counts of steps.
    private func statesByNumber() -> [Int: [(name: String, content: any TensorView)]] {
        let prefix = optimizerPath + ["state"]
        var states: [Int: [(name: String, content: any TensorView)]] = [:]
        for tensor in model.contents.tensors where tensor.path.count == prefix.count + 2 {
            guard tensor.path.starts(with: prefix), case .index(let number) = tensor.path[prefix.count],
                let state = tensor.path.last, state != "step"
            else { continue }
            states[number, default: []].append((state.text, tensor.content))
        }
        return states
    }

    /// 16-bit weights whose single-precision copies are one buffer a group.
    private mutating func addFlat(to rank: inout DeepSpeedRank) throws(CairnError) {
        var buffers: [ElementRuns] = []
        while let content = model.tensor(Self.root, "fp32_groups_flat", .index(buffers.count)) {
            var buffer = ElementRuns()
            buffer.append(content)
            buffers.append(buffer)
        }
        let sum = weights.reduce(Int?.some(0)) { $0?.adding(checked: $1.content.shape.elementCount) }
        guard buffers.count == 1, let buffer = buffers.first, sum == buffer.count else {
            skippedEntries.append(
                "which parameters are in which of the optimizer's \(buffers.count) flat buffers is not in the file: "
                    + "its state is left out")
            return
        }
        rank.groups = [weights.map { DeepSpeedParameter(name: $0.name, shape: $0.content.shape) }]
        var flat: [(name: String, buffer: ElementRuns)] = [("fp32", buffer)]
        for state in statesByNumber()[0] ?? [] where state.content.shape.extents == [buffer.count] {
            var buffer = ElementRuns()
            buffer.append(state.content)
            flat.append((state.name, buffer))
        }
        for state in flat {
            var start = 0
            for weight in weights {
                let count = weight.content.shape.elementCount
                if let slice = state.buffer.slice(start, count) {
                    rank.add(try slice.tensor(weight.content.shape), weight.name, state.name)
                }
                start += count
            }
        }
    }
}

/// Finds out which parameter each number of an optimizer stands for.
///
/// An optimizer numbers its parameters group by group and does not know their names. Groups are made by going through
/// the model's parameters in their order, so the parameters are the groups' numbers, shuffled together with the order
/// inside each group kept; the shapes of the states say which shuffles are possible. Where there is exactly one, it is
/// the truth; where there are several, it cannot be told.
package enum ParameterOrder {
    /// More ways to continue than this, over all parameters, are too many to look at.
    private static let mostStates = 1 << 18

    /// The parameter (its position in the model) of each place in the groups; `nil` where there is not exactly one way.
    ///
    /// - Parameters:
    ///   - parameters: The shapes of the model's parameters, in order.
    ///   - groups: The shapes that the optimizer has at each place of each group, `nil` where it does not say.
    package static func match(parameters: [Shape], groups: [[Shape?]]) -> [[Int]]? {
        guard groups.reduce(0, { $0 + $1.count }) == parameters.count else { return nil }
        // From the front: how far each group can have come after so many parameters, and in how many ways (two stands
        // for more).
        var layers: [[[Int]: Int]] = [[Array(repeating: 0, count: groups.count): 1]]
        var visited = 0
        for shape in parameters {
            var next: [[Int]: Int] = [:]
            for (filled, ways) in layers[layers.count - 1] {
                for group in groups.indices where fits(shape, groups[group], filled[group]) {
                    var after = filled
                    after[group] += 1
                    next[after] = min(2, next[after, default: 0] + ways)
                }
            }
            visited += next.count - 1
            guard !next.isEmpty, visited <= mostStates else { return nil }
            layers.append(next)
        }
        let end = groups.map(\.count)
        guard layers.last?[end] == 1 else { return nil }
        // One way leads to the end: back along it.
        var result = groups.map { [Int](repeating: 0, count: $0.count) }
        var filled = end
        for position in parameters.indices.reversed() {
            for group in groups.indices where filled[group] > 0 {
                var before = filled
                before[group] -= 1
                guard layers[position][before] != nil, fits(parameters[position], groups[group], before[group]) else {
                    continue
                }
                result[group][before[group]] = position
                filled = before
                break
            }
        }
        return result
    }

    private static func fits(_ shape: Shape, _ group: [Shape?], _ position: Int) -> Bool {
        position < group.count && (group[position].map { $0 == shape } ?? true)
    }
}
