import CairnBase

/// What can be said of a layout's steps without knowing a shape.
enum LayoutValidation {
    static func check(_ steps: [Layout.Step], on mesh: DeviceMesh) throws(CairnError) {
        var used = Set<String>()
        var flattened: String?
        var reduction: Reduction?
        for step in steps {
            guard let size = mesh.size(of: step.axis) else {
                throw CairnError(
                    .invalidArgument, "a layout names the axis \"\(step.axis)\", which the mesh does not have",
                    .init(expected: "one of \(mesh)", advice: "name an axis of the mesh"))
            }
            guard used.insert(step.axis).inserted else {
                throw error(step.axis, "two steps use it", .init(advice: "give each axis one step"))
            }
            switch step.placement {
            case .replicate: break
            case .shard(let sharding):
                if let flattened { throw error(step.axis, "it shards what axis \"\(flattened)\" has flattened") }
                try check(sharding, step.axis, size: size)
            case .flatten(let flattening):
                if let flattened { throw error(step.axis, "it shards what axis \"\(flattened)\" has flattened") }
                flattened = step.axis
                try check(flattening, step.axis, size: size)
            case .present(let coordinates):
                try check(coordinates, step.axis, size: size)
            case .partial(let kind):
                if let reduction, reduction != kind {
                    throw error(step.axis, "its partial values are not reduced the same way as another axis's")
                }
                reduction = kind
            }
        }
    }

    static func check(padding: [Int: Int]) throws(CairnError) {
        for (dimension, extent) in padding.sorted(by: { $0.key < $1.key }) where dimension < 0 || extent < 0 {
            throw CairnError(
                .invalidArgument, "a layout's padding is negative",
                .init(found: "extent \(extent) of dimension \(dimension)"))
        }
    }

    private static func check(_ sharding: Sharding, _ axis: String, size: Int) throws(CairnError) {
        guard sharding.dimension >= 0 else {
            throw error(axis, "it shards a negative dimension", .init(found: "\(sharding.dimension)"))
        }
        guard sharding.repeats >= 1 else {
            throw error(
                axis, "its sections repeat less than once",
                .init(expected: "at least 1", found: "\(sharding.repeats)"))
        }
        guard !sharding.sections.isEmpty else { throw error(axis, "its sharding has no section") }
        for section in sharding.sections {
            guard section.unit >= 1 else {
                throw error(
                    axis, "a section's unit must be at least 1", .init(expected: "at least 1", found: "\(section.unit)"))
            }
            if let size = section.size {
                guard size >= 0 else { throw error(axis, "a section's size is negative", .init(found: "\(size)")) }
            } else if sharding.sections.count > 1 {
                throw error(
                    axis, "only a single section may leave its size open",
                    .init(advice: "give every section its size"))
            }
            guard case .sizes(let sizes) = section.division else { continue }
            guard sizes.count == size else {
                throw error(
                    axis, "its sizes do not match its coordinates",
                    .init(expected: "\(size) sizes", found: "\(sizes.count)"))
            }
            guard sizes.allSatisfy({ $0 >= 0 && $0 % section.unit == 0 }) else {
                throw error(
                    axis, "a size is negative or no multiple of the unit",
                    .init(expected: "multiples of \(section.unit)", found: "\(Array(sizes.prefix(16)))"))
            }
        }
    }

    private static func check(_ flattening: Flattening, _ axis: String, size: Int) throws(CairnError) {
        guard flattening.start >= 0 else {
            throw error(axis, "its flat start is negative", .init(found: "\(flattening.start)"))
        }
        switch flattening.partition {
        case .perTensor:
            guard flattening.start == 0 else {
                throw error(
                    axis, "a tensor that is flattened by itself begins at 0", .init(found: "\(flattening.start)"))
            }
        case .equal(let part):
            guard part >= 0, part.multiplied(checked: size) != nil else {
                throw error(axis, "its flat part is out of range", .init(found: "\(part)"))
            }
        case .cuts(let cuts):
            guard cuts.count == size + 1 else {
                throw error(
                    axis, "its flat cuts do not match its coordinates",
                    .init(
                        expected: "\(size + 1) boundaries", found: "\(cuts.count)",
                        advice: "give the beginning of each part and the end of the last"))
            }
            guard cuts[0] >= 0, zip(cuts, cuts.dropFirst()).allSatisfy({ $0 <= $1 }) else {
                throw error(axis, "its flat cuts do not ascend", .init(found: "\(Array(cuts.prefix(16)))"))
            }
        }
    }

    private static func check(_ coordinates: [Int], _ axis: String, size: Int) throws(CairnError) {
        guard let first = coordinates.first, let last = coordinates.last else {
            throw error(axis, "it leaves the tensor on no coordinate", .init(advice: "name at least one"))
        }
        guard zip(coordinates, coordinates.dropFirst()).allSatisfy({ $0 < $1 }), first >= 0, last < size else {
            throw error(
                axis, "its coordinates do not ascend or leave the axis",
                .init(expected: "ascending, below \(size)", found: "\(Array(coordinates.prefix(16)))"))
        }
    }

    private static func error(
        _ axis: String, _ message: String, _ context: CairnError.Context = .init()
    ) -> CairnError {
        CairnError(.invalidArgument, "the layout's axis \"\(axis)\": \(message)", context)
    }
}
