import CairnLayout
import CairnTensor

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
