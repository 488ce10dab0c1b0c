import CairnBase
import CairnLayout
import CairnTensor

/// Turns a rule's placement into a layout of one whole tensor.
struct PlacementResolution {
    let context: EvaluationContext
    let buffers: BoundBuffers

    /// The layout of a tensor.
    ///
    /// - Parameters:
    ///   - shape: The whole tensor's.
    ///   - presence: Coordinates of axes on which the name says where the tensor is.
    ///   - localNames: The foreign name by rank, for what lies in flat buffers.
    func layout(
        _ steps: [On], shape: Shape, presence: [String: [Int]], localNames: [Int: String]
    ) throws(CairnError) -> Layout {
        var result: [Layout.Step] = []
        for (axis, coordinates) in presence.sorted(by: { $0.key < $1.key })
        where coordinates.count < (context.mesh.size(of: axis) ?? 0) {
            result.append(.init(axis, .present(on: coordinates)))
        }
        var left = shape.extents
        for step in steps {
            switch step.placement {
            case .replicate: result.append(.init(step.axis, .replicate))
            case .partial(let reduction): result.append(.init(step.axis, .partial(reduction)))
            case .present(let coordinates):
                result.append(.init(step.axis, .present(on: try context.numbers(coordinates).sorted())))
            case .flatten(let flattening):
                result.append(.init(step.axis, .flatten(try resolve(flattening, step.axis, localNames))))
            case .shard(let dimension, let division, let unit, let sections, let repeats):
                guard left.indices.contains(dimension) else {
                    throw CairnError(
                        .mismatch, "the placement on axis \"\(step.axis)\" shards a dimension that the tensor lacks",
                        .init(expected: "dimension \(dimension)", found: "\(shape)"))
                }
                let count = try context.number(repeats, of: "how often sections repeat", atLeast: 1)
                let resolved = try Self.sizes(sections, extent: left[dimension], repeats: count, context)
                let number = try context.number(unit, of: "the unit of a division", atLeast: 1)
                let divided = try resolve(division)
                let parts = resolved.map { Sharding.Section(size: $0, division: divided, unit: number) }
                result.append(.init(step.axis, .shard(dimension, sections: parts, repeats: count)))
                left[dimension] /= context.mesh.size(of: step.axis) ?? 1
            }
        }
        return try Layout(context.mesh, steps: result)
    }

    private func resolve(_ division: PlacementRule.Division) throws(CairnError) -> Division {
        switch division {
        case .even: .even
        case .chunked: .chunked
        case .balanced: .balanced
        case .sizes(let sizes): .sizes(try context.numbers(sizes))
        }
    }

    private static func sizes(
        _ sections: PlacementRule.Sections, extent: Int, repeats: Int, _ context: EvaluationContext
    ) throws(CairnError) -> [Int?] {
        switch sections {
        case .whole: return [nil]
        case .sizes(let sizes): return try context.numbers(sizes)
        case .equal(let expression):
            let count = try context.number(expression, of: "the number of sections", atLeast: 1)
            guard let total = count.multiplied(checked: repeats), extent % total == 0, count <= 1 << 16 else {
                throw CairnError(
                    .mismatch, "a dimension does not divide into equal sections",
                    .init(expected: "a multiple of \(count) * \(repeats)", found: "\(extent)"))
            }
            return [Int?](repeating: extent / total, count: count)
        }
    }

    private func resolve(
        _ flattening: PlacementRule.Flattening, _ axis: String, _ localNames: [Int: String]
    ) throws(CairnError) -> Flattening {
        switch flattening {
        case .perTensor: return .perTensor
        case .equal(let start, let size):
            return Flattening(
                start: try context.number(start), partition: .equal(try context.number(size)))
        case .cuts(let start, let cuts):
            return Flattening(
                start: try context.number(start), partition: .cuts(try context.numbers(cuts)))
        case .buffer:
            var found: Flattening?
            for (rank, name) in localNames.sorted(by: { $0.key < $1.key }) {
                guard let member = buffers.member(name, ofRank: rank) else { continue }
                guard member.axis == axis else {
                    throw CairnError(
                        .mismatch, "the flat buffer of the tensor is cut over another axis",
                        .init(rank: rank, expected: axis, found: member.axis))
                }
                if let found, found != member.flattening {
                    throw CairnError(
                        .unsupported, "a tensor begins at different places of the flat buffers of different ranks",
                        .init(rank: rank, expected: "\(found)", found: "\(member.flattening)"))
                }
                found = member.flattening
            }
            guard let found else {
                throw CairnError(
                    .mismatch, "no flat buffer has a member of this name",
                    .init(found: localNames.sorted { $0.key < $1.key }.first?.value))
            }
            return found
        }
    }
}

/// Finds the shape of a whole tensor from those of its shards.
enum WholeShapeInference {
    /// Along a dimension that axes shard, the whole has what the coordinates of those axes have together; along the
    /// others, what each has.
    ///
    /// - Parameter locals: The local shapes by rank, at least one; what the steps do not shard agrees.
    static func shape(of locals: [Int: Shape], steps: [On], mesh: DeviceMesh) throws(CairnError) -> Shape {
        guard let base = locals.min(by: { $0.key < $1.key }) else { return .scalar }
        var extents = base.value.extents
        let origin = mesh.coordinates(ofRank: base.key)
        for dimension in extents.indices {
            let dividing = steps.compactMap { step -> Int? in
                guard case .shard(dimension, _, _, _, _) = step.placement else { return nil }
                return mesh.axes.firstIndex { $0.name == step.axis }
            }
            guard !dividing.isEmpty else { continue }
            var sum = 0
            for (rank, shape) in locals {
                let coordinates = mesh.coordinates(ofRank: rank)
                guard coordinates.indices.allSatisfy({ dividing.contains($0) || coordinates[$0] == origin[$0] }) else {
                    continue
                }
                guard shape.dimensionCount == extents.count, let next = sum.adding(checked: shape[dimension]) else {
                    throw CairnError(
                        .mismatch, "the shards have different numbers of dimensions",
                        .init(rank: rank, expected: "\(base.value)", found: "\(shape)"))
                }
                sum = next
            }
            extents[dimension] = sum
        }
        return try Shape(checking: extents)
    }
}
