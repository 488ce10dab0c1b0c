import CairnBase
package import CairnTensor

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
