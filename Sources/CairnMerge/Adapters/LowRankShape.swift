import CairnTensor

/// How the matrices of a low-rank update lie beside the weight.
struct LowRankShape {
    let weight: [Int]
    let down: [Int]
    let up: [Int]
    let stackCount: Int

    init(weight: Shape, down: Shape, up: Shape, stackCount: Int = 1) {
        self.weight = weight.extents
        self.down = down.extents
        self.up = up.extents
        self.stackCount = stackCount
    }

    /// The rank of one product; `nil` where the matrices do not belong to each other.
    var rank: Int? {
        guard down.count >= 2, up.count >= 2, up[1] == down[0], up[2...].allSatisfy({ $0 == 1 }),
            stackCount > 0, down[0] > 0, down[0].isMultiple(of: stackCount)
        else { return nil }
        return down[0] / stackCount
    }

    func fits(isTransposed: Bool) -> Bool {
        guard rank != nil else { return false }
        if weight.count == 3, stackCount == weight[0], down.count == 2, stackCount > 1 || isTransposed {
            return [up[0], down[1]] == (isTransposed ? [weight[2], weight[1]] : [weight[1], weight[2]])
        }
        guard stackCount == 1, weight.count >= 2 else { return false }
        if isTransposed { return weight.count == 2 && down.count == 2 && [down[1], up[0]] == weight }
        return up[0] == weight[0] && Self.withoutOnes(down[1...]) == Self.withoutOnes(weight[1...])
    }

    /// Kernels of 1 by 1 are written with and without these dimensions.
    private static func withoutOnes(_ extents: ArraySlice<Int>) -> [Int] {
        Array(extents.reversed().drop { $0 == 1 }.reversed())
    }
}
