extension Layout: CustomStringConvertible {
    /// `tp: shard 0, dp: flatten`; `replicate` without steps.
    public var description: String {
        if let explicit {
            return "explicit, \(explicit.reduce(0) { $0 + $1.count }) regions"
        }
        var parts = steps.map { "\($0.axis): \($0.placement)" }
        for (dimension, extent) in padding.sorted(by: { $0.key < $1.key }) {
            parts.append("dimension \(dimension) padded to \(extent)")
        }
        return parts.isEmpty ? "replicate" : parts.joined(separator: ", ")
    }
}

extension Placement: CustomStringConvertible {
    /// `shard 0 chunked`, `flatten equal 12 from 5`, `present 0 2`, `partial sum`.
    public var description: String {
        switch self {
        case .replicate: "replicate"
        case .shard(let sharding): "shard \(sharding)"
        case .flatten(let flattening): "flatten\(flattening)"
        case .present(let coordinates): "present \(Self.shortened(coordinates))"
        case .partial(let reduction): "partial \(reduction.rawValue)"
        }
    }

    fileprivate static func shortened(_ numbers: [Int]) -> String {
        let shown = numbers.prefix(8).map { "\($0)" }.joined(separator: " ")
        return numbers.count > 8 ? shown + " … (\(numbers.count))" : shown
    }
}

extension Sharding: CustomStringConvertible {
    /// `0`, `0 chunked`, `0 in (4096 unit 128 | 1024 | 1024) x 4`.
    public var description: String {
        if repeats == 1, sections.count == 1, sections[0].size == nil {
            return "\(dimension)\(sections[0])"
        }
        let shown = sections.prefix(8).map { ($0.size.map { "\($0)" } ?? "all") + "\($0)" }.joined(separator: " | ")
        let pattern = sections.count > 8 ? shown + " … (\(sections.count))" : shown
        return "\(dimension) in (\(pattern))" + (repeats == 1 ? "" : " x \(repeats)")
    }
}

extension Sharding.Section: CustomStringConvertible {
    /// What differs from an even division of single elements, with a space before it.
    public var description: String {
        let manner =
            switch division {
            case .even: ""
            case .chunked: " chunked"
            case .balanced: " balanced"
            case .sizes(let sizes): " sizes \(Placement.shortened(sizes))"
            }
        return manner + (unit == 1 ? "" : " unit \(unit)")
    }
}

extension Flattening: CustomStringConvertible {
    /// What differs from each tensor by itself, with a space before it.
    public var description: String {
        switch partition {
        case .perTensor: ""
        case .equal(let size): " equal \(size) from \(start)"
        case .cuts(let cuts): " cuts \(Placement.shortened(cuts)) from \(start)"
        }
    }
}
