/// What one mesh axis does to a tensor.
public enum Placement: Sendable, Hashable {
    /// Every coordinate holds the same.
    case replicate
    /// The coordinates split one dimension.
    case shard(Sharding)
    /// The coordinates cut the row-major run of what the earlier steps left to a rank (ZeRO, FSDP1).
    case flatten(Flattening)
    /// Only these coordinates, ascending, hold the tensor (a pipeline stage, an expert's owner); replicas of each
    /// other.
    case present(on: [Int])
    /// Every coordinate holds a partial value of the same shape; the tensor is their reduction.
    case partial(Reduction)

    /// Splits a dimension whole.
    ///
    /// - Parameter unit: Elements that stay together, such as a head's.
    public static func shard(_ dimension: Int, _ division: Division = .even, unit: Int = 1) -> Placement {
        .shard(Sharding(dimension: dimension, sections: [.init(size: nil, division: division, unit: unit)]))
    }

    /// Splits each section of a dimension by itself.
    public static func shard(_ dimension: Int, sections: [Sharding.Section], repeats: Int = 1) -> Placement {
        .shard(Sharding(dimension: dimension, sections: sections, repeats: repeats))
    }
}

/// How the partial values of a partial tensor become the tensor.
public enum Reduction: String, Sendable, Hashable, CaseIterable {
    case sum
    case mean
}
