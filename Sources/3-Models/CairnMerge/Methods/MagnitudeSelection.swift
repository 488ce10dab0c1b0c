import CCairnKernels
import CairnBase
import CairnTensor

/// Finds which elements of task vectors have the greatest magnitudes, in linear time: their bits are counted, first the
/// upper 16, then the lower 15 of those at the border, and where the border runs through equal magnitudes those come first
/// that have the lower index.
struct MagnitudeSelection {
    /// Borders that are found side by side: the base is read once for all of them. Even, because a vector can have two.
    private static let batchCount = 8

    let base: MergeOperand
    let operands: [MergeOperand]
    let isDouble: Bool
    let sweep: TensorSweep

    /// A place in the ascending order of magnitudes, then of indices.
    private struct Border: Sendable {
        let operand: Int
        /// How many elements come before.
        let rank: Int
        /// Among equal magnitudes the higher indices come first, so that the lower ones are kept from above.
        let descends: Bool
        var upper: UInt32 = 0
        var magnitude: UInt32 = 0
        /// How many of that magnitude come before, and how many there are.
        var before = 0
        var equal = 0
    }

    /// The sparsifications as the kernels want them; `nil` for those that keep everything or choose at random.
    func sparsities(_ sparsifications: [TaskVectorMethod.Sparsification]) throws -> [cairn_sparsity?] {
        let count = sweep.shape.elementCount
        var result: [cairn_sparsity?] = sparsifications.map { _ in nil }
        var borders: [Border] = []
        /// For each sparsification the positions of its borders.
        var bounds: [(low: Int?, high: Int?)] = sparsifications.map { _ in (nil, nil) }
        func add(_ border: Border) -> Int {
            borders.append(border)
            return borders.count - 1
        }
        for (index, sparsification) in sparsifications.enumerated() {
            switch sparsification {
            case .none, .random: break
            case .largest(let density) where density >= 1: break
            case .largest(let density):
                var sparsity = cairn_sparsity.keepingAll
                if density <= 0 || count == 0 {
                    sparsity.keepNothing()
                } else {
                    let kept = max(1, Int(density * Double(count)))
                    sparsity.low_keeps_first = 1
                    if kept < count {
                        bounds[index].low = add(Border(operand: index, rank: count - kept, descends: true))
                    }
                }
                result[index] = sparsity
            case .middle(let density, _) where density >= 1: break
            case .middle(let density, let outliers):
                var sparsity = cairn_sparsity.keepingAll
                let kept = max(0, Int(density * Double(count)))
                let above = min(count, Int(min(outliers, 1) * Double(count)))
                let below = max(0, count - kept - above)
                if kept == 0 {
                    sparsity.keepNothing()
                } else {
                    if below > 0 { bounds[index].low = add(Border(operand: index, rank: below, descends: false)) }
                    if below + kept < count {
                        bounds[index].high = add(Border(operand: index, rank: below + kept, descends: false))
                    }
                }
                result[index] = sparsity
            }
        }
        try locate(&borders)
        let cuts = try self.cuts(borders)
        for (index, bin) in bounds.enumerated() {
            if let low = bin.low {
                result[index]?.low = borders[low].magnitude
                result[index]?.low_cut = cuts[low]
            }
            if let high = bin.high {
                result[index]?.high = borders[high].magnitude
                result[index]?.high_cut = cuts[high]
            }
        }
        return result
    }

    /// Finds the magnitude at each border, of so many at a time that the counters take no more memory for more inputs.
    private func locate(_ borders: inout [Border]) throws {
        for first in stride(from: 0, to: borders.count, by: Self.batchCount) {
            let range = first..<min(borders.count, first + Self.batchCount)
            var batch = Array(borders[range])
            try locate(batch: &batch)
            borders.replaceSubrange(range, with: batch)
        }
    }

    private func locate(batch borders: inout [Border]) throws {
        let upper = try count(borders.map { ($0.operand, nil) }, counterCount: 1 << 16)
        for index in borders.indices {
            let (bin, before) = Self.find(borders[index].rank, in: upper[index])
            borders[index].upper = UInt32(bin)
            borders[index].before = borders[index].rank - before
        }
        let lower = try count(borders.map { ($0.operand, $0.upper) }, counterCount: 1 << 15)
        for index in borders.indices {
            let (bin, before) = Self.find(borders[index].before, in: lower[index])
            borders[index].magnitude = borders[index].upper << 15 | UInt32(bin)
            borders[index].before -= before
            borders[index].equal = Int(lower[index][bin])
        }
    }

    /// The first counter up to which more than `rank` are counted, and how many come before it.
    private static func find(_ rank: Int, in counters: [UInt64]) -> (bin: Int, before: Int) {
        var before = 0
        for (bin, counter) in counters.enumerated() {
            if before + Int(counter) > rank { return (bin, before) }
            before += Int(counter)
        }
        return (counters.count - 1, before)
    }

    /// Counts magnitudes: of each operand asked for by the upper bits, or by the lower bits of those with given upper ones.
    private func count(_ wanted: [(operand: Int, upper: UInt32?)], counterCount: Int) throws -> [[UInt64]] {
        // Each thread counts in one that no other has.
        let all = RecyclingPool<[UInt64]>()
        let none = [UInt64](repeating: 0, count: wanted.count * counterCount)
        // Two borders of one vector share its counts by the upper bits.
        var sources = Array(wanted.indices)
        for index in wanted.indices where wanted[index].upper == nil {
            sources[index] = wanted.firstIndex { $0.upper == nil && $0.operand == wanted[index].operand } ?? index
        }
        let (base, operands, isDouble) = (self.base, self.operands, self.isDouble)
        _ = try sweep.map { [sources] chunk in
            let origin = try base.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) }
            try all.with(none) { memory in
                var last: (operand: Int, elements: cairn_elements)?
                for (index, wish) in wanted.enumerated() where sources[index] == index {
                    let x: cairn_elements
                    if let last, last.operand == wish.operand {
                        x = last.elements
                    } else {
                        x = try operands[wish.operand].elements(of: chunk.region) {
                            chunk.workspace.buffer(1, byteCount: $0)
                        }
                        last = (wish.operand, x)
                    }
                    memory.withUnsafeMutableBufferPointer { memory in
                        let counters = memory.baseAddress.map { $0 + index * counterCount }
                        if let upper = wish.upper {
                            cairn_merge_count_lower(kernelLevel, isDouble ? 1 : 0, x, origin, upper, chunk.count, counters)
                        } else {
                            cairn_merge_count_upper(kernelLevel, isDouble ? 1 : 0, x, origin, chunk.count, counters)
                        }
                    }
                }
            }
        }
        var sums = none
        for counters in all.all {
            for index in sums.indices { sums[index] += counters[index] }
        }
        return sources.map { Array(sums[$0 * counterCount..<($0 + 1) * counterCount]) }
    }

    /// The index at which each border cuts the elements of its magnitude.
    private func cuts(_ borders: [Border]) throws -> [UInt64] {
        var cuts = [UInt64](repeating: 0, count: borders.count)
        for (index, border) in borders.enumerated() {
            // From above the first ones are kept, so those before the border are the last ones.
            let wanted = border.descends ? border.equal - border.before : border.before
            if wanted == 0 {
                cuts[index] = 0
            } else if wanted >= border.equal {
                cuts[index] = UInt64(sweep.shape.elementCount)
            } else {
                cuts[index] = try position(of: wanted, border) + 1
            }
        }
        return cuts
    }

    /// The index of the element of number `number` (from 1) that has the border's magnitude.
    private func position(of number: Int, _ border: Border) throws -> UInt64 {
        let (base, operand, isDouble) = (self.base, operands[border.operand], self.isDouble)
        @Sendable func search(_ chunk: TensorSweep.Chunk, _ limit: Int) throws -> (found: Int, position: Int) {
            let origin = try base.elements(of: chunk.region) { chunk.workspace.buffer(0, byteCount: $0) }
            let x = try operand.elements(of: chunk.region) { chunk.workspace.buffer(1, byteCount: $0) }
            var position = 0
            let found = cairn_merge_count_equal(
                kernelLevel, isDouble ? 1 : 0, x, origin, border.magnitude, limit, chunk.count, &position)
            return (found, position)
        }
        let counts = try sweep.map { chunk in
            (region: chunk.region, first: chunk.first, found: try search(chunk, .max).found)
        }
        var rest = number
        for count in counts {
            if rest <= count.found {
                let chunk = { TensorSweep.Chunk(region: count.region, first: count.first, workspace: $0) }
                let position = try sweep.workspaces.with(Workspace()) { try search(chunk($0), rest).position }
                return UInt64(count.first + position)
            }
            rest -= count.found
        }
        return UInt64(sweep.shape.elementCount)
    }
}

extension cairn_sparsity {
    /// By magnitude, keeping every element.
    static var keepingAll: cairn_sparsity {
        var sparsity = cairn_sparsity()
        sparsity.by_magnitude = 1
        sparsity.high = .max
        return sparsity
    }

    mutating func keepNothing() {
        low = .max
        low_keeps_first = 1
        low_cut = 0
    }
}
