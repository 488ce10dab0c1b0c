import CairnBase
import CairnCheckpoint

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
