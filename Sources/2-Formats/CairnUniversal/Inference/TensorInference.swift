import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// Guesses how one tensor lies on an axis from two shard sets with that axis at different sizes.
struct TensorInference {
    let name: String
    let axis: String
    let first: [any CheckpointReader]
    let second: [any CheckpointReader]
    /// Whether data may be read where shapes leave something open.
    var readsData = true

    /// - Returns: `nil` when nothing that is known explains both sets.
    func infer() throws(CairnError) -> InferredPlacement? {
        let one = try shapes(first), other = try shapes(second)
        guard let model = one[0], let otherModel = other[0] else { return nil }
        let isConstant = (one + other).allSatisfy { $0 == model }
        if isConstant { return try unsharded() }
        if model.dimensionCount == otherModel.dimensionCount {
            for dimension in model.extents.indices {
                if let found = try sharded(dimension, one, other) { return found }
            }
        }
        return try flattened(one, other)
    }

    private func shapes(_ shards: [any CheckpointReader]) throws(CairnError) -> [Shape?] {
        shards.map { shard in shard.tensors.position(of: name).map { shard.tensors[$0].shape } }
    }

    // MARK: The same shape everywhere

    private func unsharded() throws(CairnError) -> InferredPlacement {
        guard readsData else {
            return InferredPlacement(remark: "replicated, by its shapes alone", isGuess: true)
        }
        if try agrees([]) {
            return InferredPlacement(remark: "replicated: the same bits on every rank of both sets")
        }
        if try isReplicated(first), try isReplicated(second) {
            return InferredPlacement(
                remark: "replicated: the same bits on every rank of a set; the two sets differ", isGuess: true)
        }
        return InferredPlacement(
            steps: [On(axis, .partial(.mean))],
            remark: "of one shape everywhere, with other bits on each rank: terms of a mean or a sum, or noise",
            isGuess: true)
    }

    // MARK: Sharded along a dimension

    private func sharded(_ dimension: Int, _ one: [Shape?], _ other: [Shape?]) throws(CairnError) -> InferredPlacement? {
        let all = one + other
        guard let model = all[0],
            all.allSatisfy({ shape in
                guard let shape, shape.dimensionCount == model.dimensionCount else { return false }
                return shape.extents.indices.allSatisfy { $0 == dimension || shape[$0] == model[$0] }
            })
        else { return nil }
        let extents = one.compactMap { $0?[dimension] }, otherExtents = other.compactMap { $0?[dimension] }
        let sum = extents.reduce(0, +), otherSum = otherExtents.reduce(0, +)
        guard sum == otherSum else { return padded(dimension, sum, otherSum, extents, otherExtents) }
        let divisions: [PlacementRule.Division] = [.even, .chunked, .balanced]
        let shape = model.extents.indices.map { $0 == dimension ? sum : model[$0] }
        for division in divisions {
            let step = On(axis, .shard(dimension, division))
            guard try fits([step], Shape(checking: shape)) else { continue }
            guard readsData else {
                return InferredPlacement(
                    steps: [step],
                    remark: "sharded over dimension \(dimension), perhaps in sections, by its shapes alone",
                    isGuess: true)
            }
            if try agrees([step]) {
                return InferredPlacement(
                    steps: [step], remark: "sharded over dimension \(dimension): both sets gather to the same bits")
            }
            for candidate in try sectioned(dimension, sum, division) where try agrees([candidate]) {
                return InferredPlacement(
                    steps: [candidate],
                    remark:
                        "sharded over dimension \(dimension) in sections, by the data: both sets gather to the same bits"
                )
            }
            return InferredPlacement(
                steps: [step],
                remark:
                    "sharded over dimension \(dimension) by its shapes, but the two sets do not gather to the same bits",
                isGuess: true)
        }
        let sizes = extents.map { IntegerExpression(integerLiteral: $0) }
        return InferredPlacement(
            steps: [On(axis, .shard(dimension, .sizes(sizes)))],
            remark:
                "sharded over dimension \(dimension) in parts that no division explains; the first set's sizes",
            isGuess: true)
    }

    private func padded(
        _ dimension: Int, _ sum: Int, _ otherSum: Int, _ extents: [Int], _ otherExtents: [Int]
    ) -> InferredPlacement? {
        guard Set(extents).count == 1, Set(otherExtents).count == 1 else { return nil }
        let real = min(sum, otherSum)
        var multiple: Int?
        for candidate in (0...10).map({ 1 << $0 }) {
            let parts = real.roundedUp(toMultipleOf: candidate * first.count)
            let otherParts = real.roundedUp(toMultipleOf: candidate * second.count)
            if parts == sum, otherParts == otherSum { multiple = candidate }
        }
        guard let multiple else { return nil }
        let text = IntegerExpression(multiple == 1 ? "\(axis).size" : "\(multiple)*\(axis).size")
        return InferredPlacement(
            steps: [On(axis, .shard(dimension))],
            transforms: [
                .strip(dimension: dimension, extent: IntegerExpression(integerLiteral: real), multiple: text)
            ],
            remark:
                "sharded over dimension \(dimension) with padding; extent (at most \(real)) and multiple are guesses",
            isGuess: true)
    }

    /// Ways in which a dimension may be sharded in sections.
    private func sectioned(_ dimension: Int, _ extent: Int, _ division: PlacementRule.Division) throws(CairnError)
        -> [On]
    {
        var candidates = [2, 3].filter { extent % $0 == 0 }.map { count in
            On(
                axis,
                .shard(
                    dimension: dimension, division: division, sections: .equal(IntegerExpression(integerLiteral: count))
                ))
        }
        let (whole, parts) = first.count == 1 ? (first, second) : (second, first)
        guard whole.count == 1, division == .even else { return candidates }
        let finder = SectionFinder(name: name, dimension: dimension)
        guard let found = try finder.sections(whole: whole[0], part: parts[0], partCount: parts.count) else {
            return candidates
        }
        candidates.insert(
            On(
                axis,
                .shard(
                    dimension: dimension, division: division,
                    sections: .sizes(found.sizes.map { IntegerExpression(integerLiteral: $0) }),
                    repeats: IntegerExpression(integerLiteral: found.repeats))), at: 0)
        return candidates
    }

    // MARK: Flattened

    private func flattened(_ one: [Shape?], _ other: [Shape?]) throws(CairnError) -> InferredPlacement? {
        let sets = [one, other]
        guard let whole = sets.first(where: { $0.count == 1 && ($0[0]?.dimensionCount ?? 0) != 1 })?[0],
            let parts = sets.first(where: { $0.count > 1 }),
            parts.allSatisfy({ $0?.dimensionCount == 1 }),
            parts.reduce(0, { $0 + ($1?.elementCount ?? 0) }) == whole.elementCount
        else { return nil }
        let step = On(axis, .flatten(.perTensor))
        guard try fits([step], whole) else { return nil }
        return InferredPlacement(
            steps: [step], shape: whole.extents.map { IntegerExpression(integerLiteral: $0) },
            remark: "flattened by its shapes; the set that is whole must be flattened too before it fits these rules",
            isGuess: true)
    }

    // MARK: Trying

    private func specification(_ steps: [On]) throws(CairnError) -> UniversalSpec {
        var rule = Rule("try", from: name.escapedForTemplate, to: "t")
        rule.placement = steps
        return UniversalSpec(axes: [.init(axis)], rules: [rule])
    }

    private func gathered(_ shards: [any CheckpointReader], _ steps: [On]) throws(CairnError) -> GatheredReader {
        try GatheredReader(
            shards.map { SingleTensorReader($0, name) }, spec: specification(steps), mesh: [axis: shards.count],
            verifiesReplicas: true)
    }

    /// Whether the shapes of both sets agree with a placement.
    private func fits(_ steps: [On], _ shape: Shape) throws(CairnError) -> Bool {
        for shards in [first, second] {
            do throws(CairnError) {
                guard try gathered(shards, steps).tensors.first?.shape == shape else { return false }
            } catch {
                if error.code == .inputOutput || error.code == .corrupted { throw error }
                // A set that is whole is not flattened: its shape alone says so.
                if steps.isFlattened, shards.count == 1 { continue }
                return false
            }
        }
        return true
    }

    /// Whether both sets gather to the same bits.
    private func agrees(_ steps: [On]) throws(CairnError) -> Bool {
        do throws(CairnError) {
            return try TensorEquality.equal(gathered(first, steps), gathered(second, steps), "t")
        } catch {
            if error.code == .inputOutput || error.code == .corrupted { throw error }
            return false
        }
    }

    private func isReplicated(_ shards: [any CheckpointReader]) throws(CairnError) -> Bool {
        do throws(CairnError) {
            let reader = try gathered(shards, [])
            return try TensorEquality.equal(reader, reader, "t")
        } catch {
            if error.code == .inputOutput || error.code == .corrupted { throw error }
            return false
        }
    }
}

/// What two shard sets tell of one tensor.
struct InferredPlacement: Hashable {
    /// Steps on the one axis; empty for what is replicated.
    var steps: [On] = []
    var transforms: [RuleTransform] = []
    var shape: [IntegerExpression]?
    /// How sure it is, and why.
    var remark: String
    /// Whether a person should look at it.
    var isGuess = false
}

/// Finds the sections of a sharded dimension by looking up a shard's slices in the whole tensor.
struct SectionFinder {
    let name: String
    let dimension: Int

    /// More slices than this are not looked at.
    private static let greatestSliceCount = 1 << 20
    private static let greatestSectionCount = 4096

    /// - Returns: The sizes of the sections in the whole tensor and how often they repeat, or `nil` when the first
    ///   shard's slices do not lie in it in runs that evenly divided sections would make.
    func sections(
        whole: any CheckpointReader, part: any CheckpointReader, partCount: Int
    ) throws(CairnError) -> (sizes: [Int], repeats: Int)? {
        let slices = try hashes(whole), partSlices = try hashes(part)
        guard slices.count <= Self.greatestSliceCount, slices.count == partSlices.count * partCount else { return nil }
        var positions: [Int: Int] = [:]
        // Slices that occur twice say nothing of where they are from.
        for (position, hash) in slices.enumerated() where positions.updateValue(position, forKey: hash) != nil { return nil }
        var runs: [(start: Int, count: Int)] = []
        for hash in partSlices {
            guard let position = positions[hash] else { return nil }
            if let last = runs.last, last.start + last.count == position {
                runs[runs.count - 1].count += 1
            } else {
                runs.append((position, 1))
            }
        }
        guard runs.count <= Self.greatestSectionCount else { return nil }
        var start = 0
        var sizes: [Int] = []
        for run in runs {
            guard run.start == start else { return nil }
            sizes.append(run.count * partCount)
            start += run.count * partCount
        }
        guard start == slices.count else { return nil }
        let period =
            (1...max(1, sizes.count)).first { period in
                sizes.count % period == 0 && sizes.indices.allSatisfy { sizes[$0] == sizes[$0 % period] }
            } ?? sizes.count
        return (Array(sizes.prefix(period)), sizes.count / max(1, period))
    }

    /// A hash of each slice across the dimension.
    private func hashes(_ reader: any CheckpointReader) throws(CairnError) -> [Int] {
        let description = try reader.description(of: name)
        let source = ReaderView(reader, description)
        let whole = Region(whole: description.shape)
        var hashes: [Int] = []
        for slice in 0..<min(description.shape[dimension], Self.greatestSliceCount + 1) {
            hashes.append(try source.bytes(of: whole.replacing(dimension, offset: slice, extent: 1)).hashValue)
        }
        return hashes
    }
}
