public import CairnBase
public import CairnCheckpoint
import CairnTensor

extension PermutationSpec {
    /// A chain of fully connected layers: the outputs of each but the last are hidden units.
    ///
    /// - Parameters:
    ///   - weights: The names of the weights, `[outputs, inputs]`, from the input on.
    ///   - biases: For each the name of its bias, if it has one.
    public static func perceptron(weights: [String], biases: [String?]) -> PermutationSpec {
        var spec = PermutationSpec()
        for (index, name) in weights.enumerated() {
            let own = index + 1 < weights.count ? Axis("hidden.\(index)") : nil
            spec.axes[name] = [own, index > 0 ? Axis("hidden.\(index - 1)") : nil]
            if let own, biases.indices.contains(index), let bias = biases[index] { spec.axes[bias] = [own] }
        }
        return spec
    }

    /// The same for a checkpoint that holds such a chain and nothing else: its matrices in the order of the numbers in their
    /// names, each with as many inputs as the one before has outputs.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for a checkpoint that is something else.
    public static func perceptron(of reader: any CheckpointReader) throws(CairnError) -> PermutationSpec {
        let matrices = reader.tensors.filter { $0.shape.dimensionCount == 2 }
            .sorted { Self.numberedOrder($0.name, $1.name) }
        for (one, next) in zip(matrices, matrices.dropFirst()) where one.shape[0] != next.shape[1] {
            throw CairnError(
                .unsupported, "the checkpoint is not a chain of fully connected layers",
                .init(
                    file: reader.source, tensor: next.name, expected: "\(one.shape[0]) inputs",
                    found: "\(next.shape[1])"))
        }
        guard matrices.count > 1 else {
            throw CairnError(
                .unsupported, "the checkpoint is not a chain of fully connected layers", .init(file: reader.source))
        }
        let biases = matrices.map { matrix -> String? in
            guard matrix.name.hasSuffix("weight") else { return nil }
            let name = matrix.name.dropLast("weight".count) + "bias"
            return reader.tensors.position(of: String(name)) == nil ? nil : String(name)
        }
        return perceptron(weights: matrices.map(\.name), biases: biases)
    }

    private static func numberedOrder(_ left: String, _ right: String) -> Bool {
        func parts(_ name: String) -> [(number: Int, text: String)] {
            name.split(separator: ".", omittingEmptySubsequences: false).map { (Int($0) ?? -1, String($0)) }
        }
        for (one, other) in zip(parts(left), parts(right)) where one.text != other.text {
            return (one.number, one.text) < (other.number, other.text)
        }
        return left.utf8.count < right.utf8.count
    }

    /// What of a block of a transformer is rearranged, by the names of its tensors.
    package struct TransformerBlock: Sendable, Hashable {
        /// Projections to queries, `[heads × width, inputs]`, and what is added to them.
        package var queries: [String] = []
        /// Projections to keys and to values, `[key heads × width, inputs]`, and what is added to them.
        package var keysAndValues: [String] = []
        /// Projections to queries, keys and values in one, for as many key heads as heads.
        package var fused: [String] = []
        /// The projection of the heads' outputs, `[outputs, heads × width]`.
        package var headOutput: String?
        /// Matrices to the hidden units of the feed-forward layer, `[hidden, inputs]`, and what is added to them.
        package var feedForwardInputs: [String] = []
        /// The matrix from the hidden units, `[outputs, hidden]`.
        package var feedForwardOutput: String?
        /// Experts that are stored one by one: for each its tensors, in one order. Whole experts are rearranged.
        package var experts: [[String]] = []
        /// The router's matrix, `[experts, inputs]`.
        package var router: String?
        /// The hidden units of each expert, in the order of ``experts``, if they are rearranged within it as well.
        package var expertUnits: [ExpertUnits] = []

        package init() {}
    }

    /// The tensors of one expert along which its hidden units lie.
    package struct ExpertUnits: Sendable, Hashable {
        /// Matrices to the hidden units, `[hidden, inputs]`, and what is added to them.
        package var inputs: [String]
        /// The matrix from the hidden units, `[outputs, hidden]`.
        package var output: String

        package init(inputs: [String], output: String) {
            self.inputs = inputs
            self.output = output
        }
    }

    /// A transformer whose heads, in groups that share keys and values, and hidden units are rearranged, and, if its tensors
    /// are named, the axes of the residual stream.
    ///
    /// - Parameters:
    ///   - headWidth: The elements of one head. Within a head nothing moves, as rotary positions ask.
    ///   - groupSize: How many heads share one of keys and values; they move together.
    ///   - transposed: Whether matrices are stored as `[inputs, outputs]`.
    ///   - residual: For tensors outside and inside the blocks the axis that is the residual stream.
    package static func transformer(
        blocks: [TransformerBlock], headWidth: Int, groupSize: Int = 1, transposed: Bool = false,
        residual: [String: Int] = [:], reader: any CheckpointReader
    ) throws(CairnError) -> PermutationSpec {
        var spec = PermutationSpec()
        func place(_ name: String, _ axis: Axis, isInput: Bool) throws(CairnError) {
            let shape = try reader.description(of: name).shape
            var axes = spec.axes[name] ?? [Axis?](repeating: nil, count: shape.dimensionCount)
            let dimension = shape.dimensionCount == 2 && isInput != transposed ? 1 : 0
            axes[shape.dimensionCount == 1 ? 0 : dimension] = axis
            spec.axes[name] = axes
        }
        for (index, block) in blocks.enumerated() {
            let heads = "block.\(index).heads", hidden = "block.\(index).hidden", experts = "block.\(index).experts"
            for name in block.queries { try place(name, Axis(heads, width: groupSize * headWidth), isInput: false) }
            for name in block.keysAndValues { try place(name, Axis(heads, width: headWidth), isInput: false) }
            for name in block.fused { try place(name, Axis(heads, width: headWidth, repeats: 3), isInput: false) }
            if let name = block.headOutput { try place(name, Axis(heads, width: groupSize * headWidth), isInput: true) }
            for name in block.feedForwardInputs { try place(name, Axis(hidden), isInput: false) }
            if let name = block.feedForwardOutput { try place(name, Axis(hidden), isInput: true) }
            if let first = block.experts.first {
                spec.stacks[experts] = first.indices.map { part in block.experts.map { $0[part] } }
                if let router = block.router { try place(router, Axis(experts), isInput: false) }
            }
            for (expert, units) in block.expertUnits.enumerated() {
                let own = Axis("block.\(index).expert.\(expert).hidden")
                for name in units.inputs { try place(name, own, isInput: false) }
                try place(units.output, own, isInput: true)
            }
        }
        for (name, dimension) in residual.sorted(by: { $0.key < $1.key }) {
            let shape = try reader.description(of: name).shape
            guard shape.extents.indices.contains(dimension) else {
                throw CairnError(
                    .mismatch, "a tensor lacks the axis of the residual stream",
                    .init(file: reader.source, tensor: name, expected: "axis \(dimension)", found: "\(shape)"))
            }
            var axes = spec.axes[name] ?? [Axis?](repeating: nil, count: shape.dimensionCount)
            guard axes[dimension] == nil else {
                throw CairnError(
                    .invalidArgument, "an axis cannot be the residual stream and other units as well",
                    .init(file: reader.source, tensor: name))
            }
            axes[dimension] = Axis("residual")
            spec.axes[name] = axes
        }
        return spec
    }
}

/// How the rows of a network's projections are shared out to heads, as far as shapes and a configuration prove it.
struct HeadNumbers: Sendable, Hashable {
    /// Heads of queries.
    let count: Int
    /// Heads of keys and values; each belongs to equally many of the queries.
    let keyCount: Int
    /// Elements of a head.
    let width: Int

    /// The elements of the queries that share one head of keys.
    var groupWidth: Int { count / keyCount * width }

    /// - Parameters:
    ///   - heads: What the user says, which must agree with everything else that is known.
    ///   - queryRows: All rows of the queries, which are the columns of the projection of the heads' outputs.
    ///   - keyRows: All rows of the keys.
    ///   - knownWidth: The elements of a head where a tensor shows them: a norm of each head.
    ///   - source: What errors name.
    /// - Throws: ``CairnError/Code/invalidArgument`` where nothing says how many heads there are,
    ///   ``CairnError/Code/mismatch`` for numbers that contradict each other.
    init(
        heads: Int?, keyHeads: Int?, queryRows: Int, keyRows: Int, knownWidth: Int?, _ configuration: ModelConfiguration?,
        source: String
    ) throws(CairnError) {
        func agree(_ said: Int?, _ known: Int?, _ what: String, _ member: String) throws(CairnError) -> Int? {
            guard let said, let known, said != known else { return said ?? known }
            throw CairnError(
                .mismatch, "the number of \(what) is not the one of the model's configuration",
                .init(file: configuration?.file, expected: "\(member) \(known)", found: "\(said)"))
        }
        guard let count = try agree(heads, configuration?.headCount, "heads", "num_attention_heads") else {
            throw CairnError(
                .invalidArgument, "nothing says how many heads a layer has",
                .init(
                    file: source, expected: "num_attention_heads in \(ModelConfiguration.fileName) beside the model",
                    advice: "say how many by --heads, and by --key-heads where heads share keys and values"))
        }
        guard count > 0, queryRows > 0, queryRows.isMultiple(of: count) else {
            throw CairnError(
                .mismatch, "the heads do not divide the rows of the queries",
                .init(file: source, expected: "a divisor of \(queryRows)", found: "\(count) heads"))
        }
        let width = queryRows / count
        // Without a width of their own, heads share out the residual stream.
        let common = configuration.flatMap { known -> Int? in
            guard known.headCount == count, let all = known.hiddenSize, all.isMultiple(of: count) else { return nil }
            return all / count
        }
        if let known = configuration?.headWidth ?? knownWidth ?? common, known != width {
            throw CairnError(
                .mismatch, "the heads are of another width than the model says",
                .init(
                    file: source, expected: "\(known) elements a head", found: "\(width) with \(count) heads"))
        }
        let stated = try agree(keyHeads, configuration?.keyHeadCount, "heads of keys and values", "num_key_value_heads")
        // A configuration leaves the number out where it is its network's usual one; by itself a head count may be mistyped.
        let keyCount = stated ?? (configuration?.headCount == nil ? count : keyRows / width)
        guard keyCount > 0, keyCount.multiplied(checked: width) == keyRows else {
            throw CairnError(
                .mismatch, "the keys have another number of rows than their heads",
                .init(
                    file: source, expected: "\(keyRows) rows", found: "\(keyCount) heads of \(width) elements",
                    advice: "say how many heads of keys there are by --key-heads"))
        }
        guard count.isMultiple(of: keyCount) else {
            throw CairnError(
                .mismatch, "heads are shared out evenly to heads of keys",
                .init(file: source, found: "\(count) and \(keyCount)"))
        }
        (self.count, self.keyCount, self.width) = (count, keyCount, width)
    }
}
