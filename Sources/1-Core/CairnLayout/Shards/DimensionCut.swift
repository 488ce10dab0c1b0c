import CairnBase

/// One step's division of one dimension.
struct DimensionCut: Sendable {
    /// The position of the mesh axis.
    let axis: Int
    let axisName: String
    let parts: Int
    private let sizes: [Int?]
    private let boundaries: [PartBoundaries]
    private let repeats: Int

    init(_ sharding: Sharding, axis: Int, axisName: String, parts: Int) {
        self.axis = axis
        self.axisName = axisName
        self.parts = parts
        repeats = sharding.repeats
        sizes = sharding.sections.map(\.size)
        boundaries = sharding.sections.map { PartBoundaries($0.division, unit: $0.unit, parts: parts) }
    }

    /// More pieces than there were before that the step can leave to a rank.
    var addedPieces: Int { (sizes.count.multiplied(checked: repeats) ?? .max) - 1 }

    private var isPlain: Bool { sizes.count == 1 && repeats == 1 }

    private func size(of section: Int, in extent: Int) -> Int { sizes[section] ?? extent / repeats }

    /// Checks that an extent can be sharded, and adds the extents that this leaves to `results`.
    ///
    /// - Parameter work: Reduced by the effort; hostile layouts use it up.
    func check(_ extent: Int, into results: inout Set<Int>, work: inout Int) throws(CairnError) {
        // Empty sections count too: listing a rank's pieces skips them.
        guard addedPieces < ShardedShape.maximumFragmentCount else {
            throw CairnError(
                .unsupported, "the axis \"\(axisName)\" shards too many sections",
                .init(
                    expected: "at most \(ShardedShape.maximumFragmentCount)",
                    found: "\(sizes.count) sections, \(repeats) times", advice: "use fewer and larger sections"))
        }
        try checkSections(of: extent)
        let representatives = sizes.count == 1 ? boundaries[0].representatives(in: size(of: 0, in: extent)) : nil
        guard let effort = (representatives?.count ?? parts).multiplied(checked: sizes.count), effort <= work else {
            throw CairnError(
                .unsupported, "the axis \"\(axisName)\" leaves too many different extents",
                .init(found: "\(parts) parts of \(sizes.count) sections each", advice: "use fewer sections"))
        }
        work -= effort
        if let representatives {
            for part in representatives { results.insert(localExtent(of: part, in: extent)) }
        } else {
            for part in 0..<parts { results.insert(localExtent(of: part, in: extent)) }
        }
    }

    private func checkSections(of extent: Int) throws(CairnError) {
        var pattern: Int? = 0
        for section in sizes.indices { pattern = pattern?.adding(checked: sizes[section] ?? 0) }
        if sizes[0] == nil {
            guard extent % repeats == 0 else {
                throw error("sections do not fill it", expected: "\(repeats) equal repeats", extent)
            }
        } else {
            let total = pattern?.multiplied(checked: repeats)
            guard total == extent else {
                throw error(
                    "sections do not fill it",
                    expected: "sections that sum to \(total.map { "\($0)" } ?? "more than fits")", extent)
            }
        }
        for section in sizes.indices {
            let size = size(of: section, in: extent)
            if let objection = boundaries[section].objection(to: size) {
                throw error("cannot be sharded", expected: objection, size)
            }
        }
    }

    private func error(_ message: String, expected: String, _ extent: Int) -> CairnError {
        CairnError(
            .invalidArgument, "the extent that is left to axis \"\(axisName)\" (size \(parts)) \(message)",
            .init(
                expected: expected, found: "extent \(extent)",
                advice: "pad the dimension, or shard it chunked, balanced or by sizes"))
    }

    /// What part `part` has of `extent`.
    func localExtent(of part: Int, in extent: Int) -> Int {
        var sum = 0
        for section in sizes.indices {
            sum += boundaries[section].range(of: part, in: size(of: section, in: extent)).count
        }
        return sum * repeats
    }

    /// What part `part` holds of `extent`, ascending.
    func ranges(of part: Int, in extent: Int) -> [Range<Int>] {
        if isPlain { return [boundaries[0].range(of: part, in: extent)] }
        var ranges: [Range<Int>] = []
        var start = 0
        for _ in 0..<repeats {
            for section in sizes.indices {
                let size = size(of: section, in: extent)
                let range = boundaries[section].range(of: part, in: size)
                if !range.isEmpty { ranges.append(start + range.lowerBound..<start + range.upperBound) }
                start += size
            }
        }
        return ranges
    }

    /// For each part that holds some of `queries` (ascending, of `extent`): where that is in the part's own extent.
    func hits(_ queries: [Range<Int>], in extent: Int) -> [(part: Int, ranges: [Range<Int>])] {
        var found: [Int: [Range<Int>]] = [:]
        // For each part that was met, where its part of each section stands in its pattern.
        var bases: [Int: [Int]] = [:]
        var sectionStarts = [0]
        for section in sizes.indices { sectionStarts.append(sectionStarts[section] + size(of: section, in: extent)) }
        let pattern = sectionStarts[sizes.count]
        guard pattern > 0 else { return [] }
        for query in queries {
            for repetition in query.lowerBound / pattern...(query.upperBound - 1) / pattern {
                let origin = repetition * pattern
                let low = max(query.lowerBound - origin, 0)
                let high = min(query.upperBound - origin, pattern)
                var section = sectionStarts.firstPosition { $0 > low } - 1
                while section < sizes.count, sectionStarts[section] < high {
                    defer { section += 1 }
                    let start = sectionStarts[section]
                    let size = sectionStarts[section + 1] - start
                    let from = max(low - start, 0)
                    let to = min(high - start, size)
                    guard from < to else { continue }
                    let first = boundaries[section].part(at: from, in: size)
                    for part in first...boundaries[section].part(at: to - 1, in: size) {
                        let range = boundaries[section].range(of: part, in: size).clamped(to: from..<to)
                        guard !range.isEmpty else { continue }
                        if bases[part] == nil { bases[part] = sectionBases(of: part, in: extent) }
                        guard let base = bases[part] else { continue }
                        let shift =
                            repetition * base[sizes.count] + base[section]
                            - boundaries[section].start(of: part, in: size)
                        found[part, default: []].append(range.lowerBound + shift..<range.upperBound + shift)
                    }
                }
            }
        }
        return found.sorted { $0.key < $1.key }.map { (part: $0.key, ranges: $0.value) }
    }

    private func sectionBases(of part: Int, in extent: Int) -> [Int] {
        var bases = [0]
        for section in sizes.indices {
            bases.append(bases[section] + boundaries[section].range(of: part, in: size(of: section, in: extent)).count)
        }
        return bases
    }
}

/// What a rank holds of one dimension: stretches of it, laid side by side in the local tensor.
struct DimensionPart: Sendable, Hashable {
    /// A stretch of the dimension.
    struct Piece: Sendable, Hashable {
        var global: Int
        var local: Int
        var count: Int

        var globalRange: Range<Int> { global..<global + count }
    }

    /// The local extent, padding included.
    var localExtent: Int
    /// In local order, adjacent ones merged, padding left out.
    var pieces: [Piece]

    /// Whether the local extent is one stretch without padding, so that it doesn't interrupt a run of elements.
    var isOneRun: Bool { pieces.count == 1 && pieces[0].count == localExtent }

    /// - Parameters:
    ///   - ranges: What the rank holds of the padded dimension, in local order.
    ///   - extent: Where padding begins.
    init(_ ranges: [Range<Int>], extent: Int) {
        pieces = []
        localExtent = 0
        for range in ranges where !range.isEmpty {
            let count = min(range.upperBound, extent) - range.lowerBound
            if count > 0 {
                if let last = pieces.last, last.global + last.count == range.lowerBound,
                    last.local + last.count == localExtent
                {
                    pieces[pieces.count - 1].count += count
                } else {
                    pieces.append(Piece(global: range.lowerBound, local: localExtent, count: count))
                }
            }
            localExtent += range.count
        }
    }
}
