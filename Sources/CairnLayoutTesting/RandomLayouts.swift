package import CairnBase
package import CairnLayout
package import CairnTensor

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
