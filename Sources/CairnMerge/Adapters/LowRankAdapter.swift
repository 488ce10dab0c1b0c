public import CairnBase
import CairnCheckpoint
import CairnTensor

/// A low-rank adapter (LoRA, Hu et al., ICLR 2022) as PEFT saves it: pairs of small matrices, what their products are
/// multiplied by, and what else was trained.
public struct LowRankAdapter: Sendable {
    /// The matrices.
    public var input: MergeInput
    public var configuration: Configuration
    /// Whether the model's output layer is one with its embedding, where that is known of it (`tie_word_embeddings`).
    package var isForTiedModel = false

    public init(_ input: MergeInput, configuration: Configuration) {
        self.input = input
        self.configuration = configuration
    }
}

extension MergedCheckpoint {
    /// A model with the updates of adapters added, as PEFT's `merge_and_unload` does it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an adapter of weights that the model lacks, ``CairnError/Code/mismatch`` for
    ///   matrices that do not fit, ``CairnError/Code/incomplete`` for an adapter that lacks something,
    ///   ``CairnError/Code/unsupported`` for what is not such an update.
    public init(
        _ base: MergeInput, adapters: [LowRankAdapter], options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        var plans: [AdapterPlan] = []
        for (index, adapter) in adapters.enumerated() {
            plans.append(try AdapterPlan(adapter, model: base.reader, input: index + 1))
        }
        var recipes: [TensorRecipe] = []
        for tensor in base.reader.tensors {
            let isTied = !plans.contains { $0.separates(tensor) }
            let updates = plans.flatMap { $0.updates(of: tensor) }
            try AdapterPlan.check(updates, of: tensor)
            recipes.append(
                TensorRecipe(
                    name: tensor.name, operands: [.init(input: 0, name: tensor.name)],
                    method: updates.isEmpty ? .passthrough() : .updates, updates: updates,
                    tiedTo: isTied ? tensor.tiedTo : nil))
        }
        for plan in plans {
            for addition in plan.additions {
                recipes.append(
                    TensorRecipe(
                        name: addition.name, operands: [addition.operand], method: .passthrough(),
                        scalarType: options.outputType ?? addition.scalarType))
            }
        }
        let inputs = [base] + adapters.map(\.input)
        try self.init(
            inputs, recipes: recipes, values: base.reader.values,
            lineage: Lineage(operation: "adapter", parents: inputs.map(\.parent)), options: options,
            notes: plans.flatMap(\.notes), isOneModel: true)
    }
}
