import CairnBase
import CairnCheckpoint
import CairnTensor

/// How the tensor ranks of a checkpoint shard its parameters, as the checkpoint itself says.
///
/// DeepSpeed keeps lists of name patterns (`universal_checkpoint_info`). What no pattern fits is joined along dimension
/// 0, as its own converter does. Source: `deepspeed/checkpoint/ds_to_universal.py` of DeepSpeed 0.19.
struct TensorParallelRules {
    private struct SubParameters {
        var patterns: [NamePattern]
        var dimension: Int
        /// The shape to look at the parameter with; -1 for what follows from the rest. At the dimension 0.
        var extents: [Int]
        /// The sizes of the parts along the dimension, or their number where they are equal.
        var sizes: [Int]
        var isCount: Bool
    }

    private let replicated: [NamePattern]
    private let averaged: [NamePattern]
    private let rows: [NamePattern]
    private let vocabulary: [NamePattern]
    private let pairs: [NamePattern]
    private let unsupported: [NamePattern]
    private let subParameters: [SubParameters]
    /// For each pattern of sub-parameters and each of them, the ranks' widths.
    private let widths: [ExactString: [[Int]]]
    private let vocabularySize: Int?
    private let file: String

    private static let root: StateKey = "universal_checkpoint_info"

    /// The rules of a model file; `nil` where it has none.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for patterns that are not understood.
    init?(_ model: DeepSpeedState) throws(CairnError) {
        guard model.contents.leaves.contains(where: { $0.path.first == Self.root && $0.path.count > 1 }) else {
            return nil
        }
        file = model.file
        func patterns(_ key: StateKey...) throws(CairnError) -> [NamePattern] {
            var found: [NamePattern] = []
            while case .string(let text)? = model.value(at: [Self.root] + key + [.index(found.count)]) {
                found.append(try NamePattern(text))
            }
            return found
        }
        replicated = try patterns("tp_replicated_parameter_patterns")
        averaged = try patterns("parameter_to_average_patterns")
        rows = try patterns("parameter_with_row_parallelism_patterns")
        vocabulary = try patterns("vocabulary_parameter_patterns")
        pairs = try patterns("parameter_with_2_sub_params_cat_dim_0")
        unsupported = try patterns("autotp_unsupported_parameter_patterns")
        vocabularySize = model.integer(Self.root, "original_vocab_size")
        var subParameters: [SubParameters] = []
        while let dimension = model.integer(
            at: [Self.root, "parameter_with_sub_params", .index(subParameters.count), "partition_dim"])
        {
            let path: [StateKey] = [Self.root, "parameter_with_sub_params", .index(subParameters.count)]
            var extents: [Int] = [], sizes: [Int] = []
            var isCount = false
            while true {
                let extentPath = path + ["shape", .index(extents.count)]
                let inner = model.integers(at: extentPath)
                if let extent = model.integer(at: extentPath) {
                    if extents.count == dimension { (sizes, isCount) = ([extent], true) }
                    extents.append(extents.count == dimension ? 0 : extent)
                } else if !inner.isEmpty {
                    if extents.count == dimension { sizes = inner }
                    extents.append(extents.count == dimension ? 0 : inner.reduce(0, &+))
                } else {
                    break
                }
            }
            subParameters.append(
                SubParameters(
                    patterns: try patterns("parameter_with_sub_params", .index(subParameters.count), "patterns"),
                    dimension: dimension, extents: extents, sizes: sizes, isCount: isCount))
        }
        self.subParameters = subParameters
        var widths: [ExactString: [[Int]]] = [:]
        for (path, _) in model.contents.leaves
        where path.count == 5 && path[0] == Self.root && path[1] == "sub_param_shard_widths" {
            let name = ExactString(path[2].text)
            guard widths[name] == nil else { continue }
            var lists: [[Int]] = []
            while true {
                let list = model.integers(at: Array(path[..<3]) + [.index(lists.count)])
                if list.isEmpty { break }
                lists.append(list)
            }
            widths[name] = lists
        }
        self.widths = widths
        for (path, value) in model.contents.leaves
        where path.count > 3 && path[0] == Self.root && path[1] == "affine_map" && path.last == "scale" {
            guard value != .double(1), value != .integer(1) else { continue }
            throw CairnError(
                .unsupported, "a parameter's parts are scaled in the ranks",
                .init(file: file, found: path[3].text, advice: "convert it with DeepSpeed's ds_to_universal first"))
        }
    }

    /// The whole of a parameter's state from the ranks' parts.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the parts do not fit each other.
    func gathered(_ parts: [any TensorView], _ parameter: String) throws(CairnError) -> any TensorView {
        func fits(_ patterns: [NamePattern]) -> Bool { patterns.contains { $0.matchesBeginning(of: parameter) } }
        do throws(CairnError) {
            if fits(unsupported) {
                throw CairnError(.unsupported, "DeepSpeed says that it does not know how this parameter is sharded")
            }
            var whole: any TensorView
            if fits(replicated) {
                whole = try EqualView(copies: parts)
            } else if fits(averaged) {
                throw CairnError(
                    .unsupported, "the ranks' copies of this parameter are to be averaged",
                    .init(advice: "use rules of your own: --rules FILE"))
            } else if fits(pairs) {
                whole = try join(parts, dimension: 0, widths: evenWidths(parts, dimension: 0, count: 2))
            } else if let rule = subParameters.first(where: { fits($0.patterns) }) {
                whole = try joined(parts, rule, parameter)
            } else {
                let dimension = fits(rows) ? 1 : 0
                whole = try join(
                    parts, dimension: dimension, widths: [parts.map { extent($0, dimension) }])
            }
            if fits(vocabulary), let size = vocabularySize {
                whole = try rows(size, of: whole)
            }
            return whole
        } catch {
            throw error.adding(.init(file: file, tensor: parameter))
        }
    }

    /// The ranks' parts one behind the other along a dimension; of several sub-parameters each rank has a part of each.
    private func join(
        _ parts: [any TensorView], dimension: Int, widths: [[Int]]
    ) throws(CairnError) -> any TensorView {
        guard let type = parts.first?.scalarType, !type.isPacked, parts.allSatisfy({ $0.scalarType == type }) else {
            throw CairnError(
                .mismatch, "the ranks' parts differ in type",
                .init(found: parts.map { "\($0.scalarType)\($0.shape)" }.joined(separator: " ")))
        }
        return MappedView(parts, try ConcatenationMapping(parts.map(\.shape), dimension: dimension, widths: widths), type)
    }

    /// The first rows of a tensor: what is left of a vocabulary without its padding.
    private func rows(_ count: Int, of whole: any TensorView) throws(CairnError) -> any TensorView {
        guard let rows = whole.shape.extents.first, count >= 0, count <= rows else {
            throw CairnError(
                .mismatch, "the vocabulary is larger than its tensor",
                .init(expected: "\(count) rows", found: "\(whole.shape)"))
        }
        let shape = try whole.shape.replacing(0, with: count)
        return MappedView(whole, try WindowMapping(Region(whole: shape), of: whole.shape))
    }

    private func extent(_ part: any TensorView, _ dimension: Int) -> Int {
        dimension >= 0 && dimension < part.shape.dimensionCount ? part.shape.extents[dimension] : 0
    }

    /// Every rank has an equal part of each of so many equal sub-parameters.
    private func evenWidths(
        _ parts: [any TensorView], dimension: Int, count: Int
    ) throws(CairnError) -> [[Int]] {
        guard count > 0, parts.allSatisfy({ extent($0, dimension).isMultiple(of: count) }) else {
            throw CairnError(.mismatch, "a part does not divide into its sub-parameters", .init(expected: "\(count)"))
        }
        return (0..<count).map { _ in parts.map { extent($0, dimension) / count } }
    }

    private func joined(
        _ parts: [any TensorView], _ rule: SubParameters, _ parameter: String
    ) throws(CairnError) -> any TensorView {
        let known = rule.patterns.first { $0.matchesBeginning(of: parameter) }.flatMap { widths[ExactString($0.text)] }
        let sizes: [Int]
        if rule.isCount, known == nil {
            guard let count = rule.sizes.first, count > 0 else { throw mismatch(parts) }
            return try join(
                parts, dimension: rule.dimension,
                widths: evenWidths(parts, dimension: rule.dimension, count: count))
        }
        sizes = rule.isCount ? (known ?? []).map { $0.reduce(0, &+) } : rule.sizes
        var lists = known ?? []
        if known == nil {
            guard sizes.allSatisfy({ $0 >= 0 && $0.isMultiple(of: parts.count) }) else { throw mismatch(parts) }
            lists = sizes.map { size in parts.map { _ in size / parts.count } }
        }
        guard lists.count == sizes.count, lists.allSatisfy({ $0.count == parts.count && $0.allSatisfy { $0 >= 0 } })
        else { throw mismatch(parts) }
        // The ranks' parts, looked at with the shape that the rule gives.
        var views: [any TensorView] = []
        for (rank, part) in parts.enumerated() {
            var extents = rule.extents
            guard rule.dimension >= 0, rule.dimension < extents.count else { throw mismatch(parts) }
            extents[rule.dimension] = lists.reduce(0) { $0 &+ $1[rank] }
            let known = extents.filter { $0 >= 0 }.reduce(Int?.some(1)) { $0?.multiplied(checked: $1) }
            if let open = extents.firstIndex(of: -1), let known, known > 0 {
                extents[open] = part.shape.elementCount / known
            }
            views.append(try part.reshaped(Shape(checking: extents)))
        }
        return try join(views, dimension: rule.dimension, widths: lists)
    }

    private func mismatch(_ parts: [any TensorView]) -> CairnError {
        CairnError(
            .mismatch, "the sizes of sub-parameters do not fit the ranks' parts",
            .init(found: parts.map { "\($0.shape)" }.joined(separator: " ")))
    }
}
