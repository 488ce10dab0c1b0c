package import CairnBase
package import CairnLayout
package import CairnTensor
import CairnTesting

/// Random meshes, shapes and layouts of every kind, all valid, from a seed.
package struct RandomLayouts {
    /// What all of it follows from; print it where a test fails.
    package let seed: UInt64
    /// For what else a test draws.
    package var random: LayoutRandom

    package init(seed: UInt64) {
        self.seed = seed
        random = LayoutRandom(seed: seed)
    }

    /// A mesh of one to four axes.
    package mutating func mesh(maximumRankCount: Int = 36) throws(CairnError) -> DeviceMesh {
        var axes: [DeviceMesh.Axis] = []
        var count = 1
        for name in ["dp", "tp", "pp", "ep"].shuffled(using: &random).prefix(random.pick(1...4)) {
            let size = random.element(of: [1, 2, 2, 3, 4, 5])
            if count * size > maximumRankCount { continue }
            count *= size
            axes.append(.init(name, size))
        }
        return try DeviceMesh(axes: axes)
    }

    /// A mesh of `rankCount` ranks, the number's divisors dealt to axes.
    package mutating func mesh(rankCount: Int) throws(CairnError) -> DeviceMesh {
        var axes: [DeviceMesh.Axis] = []
        var rest = rankCount
        for name in ["dp", "tp", "pp"].shuffled(using: &random) {
            let size = random.element(of: (1...rest).filter { rest % $0 == 0 })
            axes.append(.init(name, size))
            rest /= size
        }
        axes.append(.init("ep", rest))
        return try DeviceMesh(axes: axes)
    }

    /// A shape of up to four dimensions.
    package mutating func shape(maximumElementCount: Int = 600) -> Shape {
        var extents: [Int] = []
        var count = 1
        for _ in 0..<random.element(of: [0, 1, 1, 2, 2, 2, 3, 3, 4]) {
            let extent =
                random.isLucky(4) ? 0 : random.element(of: [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 24, 31, 48])
            if count * extent > maximumElementCount { continue }
            count *= max(1, extent)
            extents.append(extent)
        }
        return Shape(extents)
    }

    /// A tensor on the mesh.
    package mutating func tensor(
        _ name: String, on mesh: DeviceMesh, maximumElementCount: Int = 600
    ) throws(CairnError) -> PlacedTensor {
        let shape = shape(maximumElementCount: maximumElementCount)
        let types: [ScalarType] = [.f32, .bf16, .f64, .u8, .i64, .f8e4m3]
        return PlacedTensor(
            name: name, scalarType: random.element(of: types), shape: shape, layout: try layout(of: shape, on: mesh))
    }

    /// A layout of any kind that fits the shape.
    package mutating func layout(of shape: Shape, on mesh: DeviceMesh) throws(CairnError) -> Layout {
        if random.isLucky(12) { return try explicit(shape, on: mesh) }
        var builder = LayoutBuilder(shape: shape, padsAtRandom: random.isLucky(15), &random)
        for axis in mesh.axes.shuffled(using: &random) {
            guard let placement = builder.placement(parts: axis.size, &random) else { continue }
            builder.steps.append(.init(axis.name, placement))
        }
        return try Layout(mesh, steps: builder.steps, padding: builder.padding)
    }

    /// Boxes that tile the shape, each on some ranks, and some smaller copies.
    package mutating func explicit(_ shape: Shape, on mesh: DeviceMesh) throws(CairnError) -> Layout {
        var boxes = [Region(whole: shape)]
        for _ in 0..<random.pick(0...8) {
            let index = random.pick(0...boxes.count - 1)
            guard let halves = try split(boxes[index]) else { continue }
            boxes.remove(at: index)
            boxes += halves
        }
        var ranks = [[Region]](repeating: [], count: mesh.rankCount)
        for box in boxes {
            let holders = (0..<mesh.rankCount).shuffled(using: &random).prefix(random.pick(1...min(3, mesh.rankCount)))
            for rank in holders { ranks[rank].append(box) }
            guard random.isLucky(20), let part = try split(box)?.first else { continue }
            let rank = random.pick(0...mesh.rankCount - 1)
            if !ranks[rank].contains(part) { ranks[rank].append(part) }
        }
        return try Layout(mesh, explicit: ranks.map { $0.shuffled(using: &random) })
    }

    /// A box inside the shape.
    package mutating func region(of shape: Shape) throws(CairnError) -> Region {
        var offsets: [Int] = []
        var extents: [Int] = []
        for extent in shape.extents {
            let begin = random.pick(0...extent)
            offsets.append(begin)
            extents.append(random.pick(min(1, extent - begin)...extent - begin))
        }
        return try Region(offsets: offsets, shape: Shape(extents))
    }

    private mutating func split(_ box: Region) throws(CairnError) -> [Region]? {
        let candidates = box.shape.extents.indices.filter { box.shape[$0] > 1 }
        guard !candidates.isEmpty else { return nil }
        let dimension = random.element(of: candidates)
        let cut = random.pick(1...box.shape[dimension] - 1)
        var upper = box.shape.extents
        var lower = upper
        upper[dimension] = cut
        lower[dimension] -= cut
        var offsets = box.offsets
        offsets[dimension] += cut
        return [
            try Region(offsets: box.offsets, shape: Shape(upper)), try Region(offsets: offsets, shape: Shape(lower)),
        ]
    }
}

/// A layout in the making: knows the extents that the steps so far leave to the ranks, so that the next one fits.
struct LayoutBuilder {
    var steps: [Layout.Step] = []
    private(set) var padding: [Int: Int] = [:]
    /// For each dimension the different local extents.
    private var extents: [Set<Int>]
    private var isSharded: [Bool]
    private var isFlat = false
    private var reduction: Reduction?

    init(shape: Shape, padsAtRandom: Bool, _ random: inout LayoutRandom) {
        extents = shape.extents.map { [$0] }
        isSharded = shape.extents.map { _ in false }
        guard padsAtRandom, let dimension = shape.extents.indices.randomElement(using: &random) else { return }
        let padded = shape[dimension] + random.pick(0...5)
        padding[dimension] = padded
        extents[dimension] = [padded]
    }

    /// What an axis of `parts` coordinates might do, `nil` for not being named.
    mutating func placement(parts: Int, _ random: inout LayoutRandom) -> Placement? {
        switch random.pick(0...11) {
        case 0: return .replicate
        case 1: return .present(on: (0..<parts).shuffled(using: &random).prefix(random.pick(1...parts)).sorted())
        case 2:
            let kind = reduction ?? random.element(of: Reduction.allCases)
            reduction = kind
            return .partial(kind)
        case 3...4 where !isFlat:
            isFlat = true
            return .flatten(flattening(parts: parts, &random))
        case 5...10 where !isFlat && !extents.isEmpty: return .shard(sharding(parts: parts, &random))
        default: return nil
        }
    }

    private func flattening(parts: Int, _ random: inout LayoutRandom) -> Flattening {
        let count = extents.reduce(1) { $0 * ($1.max() ?? 0) }
        let start = random.pick(0...9)
        switch random.pick(0...2) {
        case 0: return .perTensor
        case 1:
            let least = (start + count + parts - 1) / parts
            return Flattening(start: start, partition: .equal(max(1, least + random.pick(0...3))))
        default:
            let end = start + count + random.pick(0...4)
            let inner = (1..<max(1, parts)).map { _ in random.pick(0...end) }.sorted()
            let first = min(random.pick(0...start), inner.first ?? start)
            return Flattening(start: start, partition: .cuts([first] + inner + [end]))
        }
    }

    private mutating func sharding(parts: Int, _ random: inout LayoutRandom) -> Sharding {
        let divided = isSharded.indices.filter { isSharded[$0] }
        let dimension =
            !divided.isEmpty && random.isLucky(50)
            ? random.element(of: divided) : random.pick(0...extents.count - 1)
        let sharding = sharding(of: dimension, parts: parts, &random)
        isSharded[dimension] = true
        var next: Set<Int> = []
        for extent in extents[dimension] {
            let owners = ElementOracle.owners(along: extent, sharding, parts: parts)
            for part in 0..<parts { next.insert(owners.filter { $0 == part }.count) }
        }
        extents[dimension] = next
        return sharding
    }

    private mutating func sharding(of dimension: Int, parts: Int, _ random: inout LayoutRandom) -> Sharding {
        let all = extents[dimension]
        if all.count == 1, let extent = all.first, extent > 0, random.isLucky(40) {
            let repeats = random.element(of: (1...extent).filter { extent % $0 == 0 && $0 <= 6 })
            let sizes = random.sizes(of: extent / repeats, parts: random.pick(1...3))
            return Sharding(
                dimension: dimension,
                sections: sizes.map { section(of: $0, isOpen: false, parts: parts, &random) }, repeats: repeats)
        }
        if !isSharded[dimension], padding[dimension] == nil, let extent = all.first, extent % parts != 0,
            random.isLucky(40)
        {
            let padded = (extent + parts - 1) / parts * parts
            padding[dimension] = padded
            extents[dimension] = [padded]
            return Sharding(dimension: dimension)
        }
        let repeats = random.element(of: (1...4).filter { repeats in all.allSatisfy { $0 % repeats == 0 } })
        let sizes = Set(all.map { $0 / repeats })
        if sizes.count == 1, let size = sizes.first {
            return Sharding(
                dimension: dimension, sections: [section(of: size, isOpen: true, parts: parts, &random)],
                repeats: repeats)
        }
        if sizes.allSatisfy({ $0 % parts == 0 }), random.isLucky(50) {
            return Sharding(dimension: dimension, repeats: repeats)
        }
        let division: Division = random.isLucky(50) ? .chunked : .balanced
        return Sharding(
            dimension: dimension, sections: [.init(size: nil, division: division, unit: random.pick(1...3))],
            repeats: repeats)
    }

    private func section(of size: Int, isOpen: Bool, parts: Int, _ random: inout LayoutRandom) -> Sharding.Section {
        let unit = random.isLucky(60) ? 1 : random.pick(1...4)
        let stored = isOpen ? nil : size
        switch random.pick(0...3) {
        case 0 where size % (parts * unit) == 0: return .init(size: stored, division: .even, unit: unit)
        case 1 where size % unit == 0:
            return .init(
                size: stored, division: .sizes(random.sizes(of: size, parts: parts, unit: unit)), unit: unit)
        case 2: return .init(size: stored, division: .balanced, unit: unit)
        default: return .init(size: stored, division: .chunked, unit: unit)
        }
    }
}

/// Random numbers that a seed determines.
package struct LayoutRandom: RandomNumberGenerator, Sendable {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

    /// A number in the range, which is not empty.
    package mutating func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// True `percent` times out of a hundred.
    package mutating func isLucky(_ percent: Int) -> Bool { pick(1...100) <= percent }

    /// One of the elements, of which there is at least one.
    package mutating func element<Element>(of list: [Element]) -> Element { list[pick(0...list.count - 1)] }

    /// Sizes of `parts` parts, some perhaps empty, that sum to `total` units of `unit`.
    package mutating func sizes(of total: Int, parts: Int, unit: Int = 1) -> [Int] {
        let borders = [0] + (1..<parts).map { _ in pick(0...total / unit) * unit }.sorted() + [total]
        return zip(borders, borders.dropFirst()).map { $1 - $0 }
    }
}
