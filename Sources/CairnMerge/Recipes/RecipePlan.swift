import CairnBase
import CairnCheckpoint
import CairnTensor

/// What a recipe makes of the tensors of its models.
struct RecipePlan {
    private let recipe: MergeRecipe
    private let inputs: [MergeInput]
    private let positions: [String: Int]
    private(set) var tensors: [TensorRecipe] = []
    private var problems: [String] = []

    init(_ recipe: MergeRecipe, _ inputs: [MergeInput]) throws(CairnError) {
        self.recipe = recipe
        self.inputs = inputs
        positions = Dictionary(uniqueKeysWithValues: recipe.models.enumerated().map { ($1, $0) })
        switch recipe.content {
        case .models(let sources): try plan(sources)
        case .slices(let slices): try plan(slices)
        }
        guard problems.isEmpty else {
            throw CairnError(
                .mismatch,
                "the models do not fit together"
                    + (problems.count > 1 ? ", in \(problems.count) respects: " : ": ")
                    + problems.joined(separator: "; "))
        }
        tie()
    }

    private func reader(_ model: String) -> any CheckpointReader { inputs[positions[model] ?? 0].reader }

    /// The sources, with the base behind them if it is not among them.
    private func withBase(_ sources: [MergeRecipe.Source], _ base: String?) -> [MergeRecipe.Source] {
        guard let base, !sources.contains(where: { $0.model == base }) else { return sources }
        return sources + [MergeRecipe.Source(model: base)]
    }

    private mutating func plan(_ sources: [MergeRecipe.Source]) throws(CairnError) {
        let all = withBase(sources, recipe.baseModel)
        guard let first = all.first else { throw CairnError(.invalidArgument, "the recipe names no model") }
        let members = all.map { MergeInput(reader($0.model)) }
        problems += SchemaComparison(of: members, promotesTypes: true).mismatches.map(\.description)
        guard problems.isEmpty else { return }
        let slice = MergeRecipe.Slice(sources: all)
        let counts = LayerName.counts(in: reader(first.model))
        for tensor in reader(first.model).tensors {
            let position = LayerName(tensor.name).map { name in
                let count = counts[name.prefix] ?? 1
                return count > 1 ? Double(name.layer) / Double(count - 1) : 1
            }
            try add(tensor.name, slice, names: all.map { _ in tensor.name }, position: position ?? 0)
        }
    }

    private mutating func plan(_ slices: [MergeRecipe.Slice]) throws(CairnError) {
        guard let first = slices.first, let last = slices.last, slices.allSatisfy({ !$0.sources.isEmpty }) else {
            throw CairnError(.invalidArgument, "the recipe has no slices, or one without sources")
        }
        for model in recipe.models {
            let stacks = LayerName.counts(in: reader(model)).keys.sorted()
            guard stacks.count == 1 else {
                throw CairnError(
                    .unsupported, "slices are of models with one stack of layers",
                    .init(
                        file: reader(model).source,
                        found: stacks.isEmpty ? "none" : stacks.map { $0 + "N" }.joined(separator: ", ")))
            }
        }
        var layer = 0
        for slice in slices { try plan(slice, layer: &layer) }
        for tensor in reader(first.sources[0].model).tensors where LayerName(tensor.name) == nil {
            let slice = Self.isBeforeLayers(tensor.name) ? first : last
            try add(tensor.name, slice, names: slice.sources.map { _ in tensor.name }, position: 0)
        }
    }

    private mutating func plan(_ slice: MergeRecipe.Slice, layer: inout Int) throws(CairnError) {
        let ranges = slice.sources.map { $0.layers ?? 0..<0 }
        guard let count = ranges.first?.count, ranges.allSatisfy({ $0.count == count }) else {
            throw CairnError(
                .invalidArgument, "the sources of a slice have different numbers of layers",
                .init(found: ranges.map { "\($0)" }.joined(separator: ", ")))
        }
        for offset in 0..<count {
            let position = count > 1 ? Double(offset) / Double(count - 1) : 1
            let names = layerTensors(slice.sources[0].model, ranges[0].lowerBound + offset)
            if names.isEmpty {
                problems.append(
                    "\(reader(slice.sources[0].model).source) has no layer \(ranges[0].lowerBound + offset)")
            }
            for name in names {
                try add(
                    name.name(ofLayer: layer), slice,
                    names: ranges.map { name.name(ofLayer: $0.lowerBound + offset) }, position: position)
            }
            layer += 1
        }
    }

    private func layerTensors(_ model: String, _ layer: Int) -> [LayerName] {
        reader(model).tensors.compactMap { LayerName($0.name) }.filter { $0.layer == layer }
    }

    /// Which end of the stack a tensor outside the layers belongs to: mergekit knows it for each architecture, here the
    /// name tells. It matters only where the first and the last slice have different models.
    private static func isBeforeLayers(_ name: String) -> Bool {
        let text = name.lowercased()
        return ["embed", "wte", "wpe", "tok_emb"].contains { text.contains($0) }
            && !["lm_head", "embed_out", "unembed"].contains { text.contains($0) }
    }

    /// Adds a tensor of the result, or says why it cannot be.
    ///
    /// - Parameter names: Its name in each source.
    private mutating func add(
        _ name: String, _ slice: MergeRecipe.Slice, names: [String], position: Double
    ) throws(CairnError) {
        let base = slice.baseModel ?? recipe.baseModel
        var sources = Array(zip(slice.sources, names))
        for (source, name) in sources where reader(source.model).tensors.position(of: name) == nil {
            problems.append("\(reader(source.model).source) has no tensor \"\(name)\"")
            return
        }
        let method = RecipeMethod(recipe: recipe, slice: slice, tensor: name, position: position, base: base)
        let made = try method.make(names: names)
        // The base goes first where the method has one.
        if made.hasBase, let index = sources.firstIndex(where: { $0.0.model == base }) {
            sources.insert(sources.remove(at: index), at: 0)
        }
        tensors.append(
            TensorRecipe(
                name: name, operands: sources.map { .init(input: positions[$0.0.model] ?? 0, name: $0.1) },
                method: made.method))
    }

    /// Ties tensors of the result that are one in every source and are made in one way.
    private mutating func tie() {
        var places: [ExactString: Int] = [:]
        for (index, tensor) in tensors.enumerated() { places[ExactString(tensor.name)] = index }
        for index in tensors.indices {
            var target: String?
            let isTied = tensors[index].operands.allSatisfy { operand in
                let all = inputs[operand.input].reader.tensors
                guard let tied = all.position(of: operand.name).flatMap({ all[$0].tiedTo }) else { return false }
                if target == nil { target = tied }
                return target == tied
            }
            guard isTied, let target, let place = places[ExactString(target)],
                tensors[place].method == tensors[index].method,
                tensors[place].operands.map(\.input) == tensors[index].operands.map(\.input),
                tensors[place].operands.allSatisfy({ $0.name == target })
            else { continue }
            tensors[index].tiedTo = target
        }
    }
}
