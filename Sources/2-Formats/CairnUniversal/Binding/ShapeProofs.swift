import CairnBase
import CairnLayout
import CairnTensor

/// What the shapes of the matrices of one layer prove of each other, and a rule may contradict without that any shape is wrong:
/// whether a perceptron is gated, and how many rows of a fused projection are queries.
///
/// Shards of a gated matrix hold a part of the gate and the same part of the other half. Taken as plain rows they make up a
/// matrix of the right shape with its rows in the wrong order.
struct ShapeProofs {
    /// A whole foreign matrix, and by which rule it lies on the mesh.
    struct Matrix {
        var rule: Int
        /// The first rank that has it, and what it is called there: stages number their layers each from 0.
        var rank: Int
        var name: String
        var shape: Shape
        /// How many of its rows are queries, if it is split into three.
        var queryRows: Int?
    }

    /// What the matrices into and out of hidden units are called: Megatron-Core, Megatron-LM, the Transformers library.
    private static let perceptrons = [
        (up: "linear_fc1", down: "linear_fc2"), (up: "dense_h_to_4h", down: "dense_4h_to_h"),
        (up: "gate_up_proj", down: "down_proj"),
    ]
    /// What the projections to heads and from them are called.
    private static let attentions = [
        (fused: "linear_qkv", output: "linear_proj"), (fused: "query_key_value", output: "dense"),
        (fused: "qkv_proj", output: "o_proj"),
    ]

    let specification: CompiledSpecification
    let context: EvaluationContext

    /// Everything that the matrices contradict, one problem a rule.
    func problems(_ matrices: [Matrix]) -> [RuleProblem] {
        let named = Dictionary(
            matrices.map { (ExactString("\($0.rank).\($0.name)"), $0) }, uniquingKeysWith: { first, _ in first })
        var problems: [RuleProblem] = []
        var reported: Set<Int> = []
        for matrix in matrices.sorted(by: { ExactString($0.name) < ExactString($1.name) })
        where matrix.shape.dimensionCount == 2 && !reported.contains(matrix.rule) {
            let error =
                Self.perceptrons.lazy.compactMap { names -> CairnError? in
                    partner(of: matrix, names.up, names.down, named).flatMap { contradiction(of: matrix, with: $0) }
                }.first
                ?? Self.attentions.lazy.compactMap { names -> CairnError? in
                    partner(of: matrix, names.fused, names.output, named).flatMap { queries(of: matrix, with: $0) }
                }.first
            guard let error else { continue }
            reported.insert(matrix.rule)
            problems.append(RuleProblem(specification.rules[matrix.rule].label, error))
        }
        return problems
    }

    /// The matrix of the same layer with another word in its name.
    private func partner(
        of matrix: Matrix, _ word: String, _ other: String, _ named: [ExactString: Matrix]
    ) -> Matrix? {
        var parts = matrix.name.split(separator: ".", omittingEmptySubsequences: false)
        guard let position = parts.lastIndex(where: { $0 == word }) else { return nil }
        parts[position] = other[...]
        guard let found = named[ExactString("\(matrix.rank)." + parts.joined(separator: "."))],
            found.shape.dimensionCount == 2
        else {
            return nil
        }
        return found
    }

    private func contradiction(of up: Matrix, with down: Matrix) -> CairnError? {
        let (rows, hidden) = (up.shape[0], down.shape[1])
        guard down.shape[0] == up.shape[1], rows > 0, rows == hidden || rows == hidden.multiplied(checked: 2) else { return nil }
        let isGated = rows != hidden
        for step in specification.rules[up.rule].placement {
            // Only where ranks shard the hidden units are halves sharded each on their own.
            guard case .shard(0, _, _, let sections, let repeats) = step.placement, shardsColumns(down, step.axis) else {
                continue
            }
            let count = sectionCount(sections).flatMap { count in
                (try? context.number(repeats, of: "how often sections repeat", atLeast: 1)).flatMap {
                    count.multiplied(checked: $0)
                }
            }
            if isGated, count == 1 {
                return CairnError(
                    .mismatch, "the perceptron is gated, and the rule takes its rows as those of one matrix",
                    .init(
                        tensor: up.name, expected: "shard: 0, sections: 2 on the axis \"\(step.axis)\"",
                        found: "\(rows) rows for the \(hidden) columns of \"\(down.name)\", so that each rank holds a part of "
                            + "the gate and one of the other half",
                        advice: "take the rule \"gate and up\" of the preset megatron-gpt-gated, or of megatron-llama"))
            }
            if !isGated, count == 2 {
                return CairnError(
                    .mismatch, "the perceptron is not gated, and the rule takes its rows as those of two matrices",
                    .init(
                        tensor: up.name, expected: "shard: 0 without sections on the axis \"\(step.axis)\"",
                        found: "\(rows) rows for the \(hidden) columns of \"\(down.name)\"",
                        advice: "take the rule \"up\" of the preset megatron-gpt"))
            }
        }
        return nil
    }

    private func shardsColumns(_ matrix: Matrix, _ axis: String) -> Bool {
        specification.rules[matrix.rule].placement.contains { step in
            guard step.axis == axis, case .shard(1, _, _, _, _) = step.placement else { return false }
            return true
        }
    }

    /// `nil` where it cannot be told.
    private func sectionCount(_ sections: PlacementRule.Sections) -> Int? {
        switch sections {
        case .whole: 1
        case .sizes(let sizes): sizes.count
        case .equal(let count): try? context.number(count, of: "the number of sections", atLeast: 1)
        }
    }

    private func queries(of fused: Matrix, with output: Matrix) -> CairnError? {
        guard let rows = fused.queryRows, rows != output.shape[1] else { return nil }
        return CairnError(
            .mismatch, "the rule splits off another number of rows as queries than the heads' outputs have",
            .init(
                tensor: fused.name, expected: "\(output.shape[1]) rows, as \"\(output.name)\" has columns", found: "\(rows) rows",
                advice: "correct the numbers of heads, groups and elements of a head"))
    }
}
