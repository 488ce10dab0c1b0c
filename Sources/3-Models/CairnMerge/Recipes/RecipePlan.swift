import CairnBase
import CairnCheckpoint
import CairnTensor

/// What a recipe makes of the tensors of its models.
struct RecipePlan {
    private let recipe: MergeRecipe
    private let inputs: [MergeInput]
    private let positions: [String: Int]
    private(set) var tensors: [TensorRecipe] = []
    /// What of the recipe changes nothing, a sentence each.
    private(set) var notes: [String] = []
    private var problems: [String] = []
    private let use = SettingUse()

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
        let idle = try use.idle(of: recipe, names: tensors.map(\.name) + inputs.flatMap { $0.reader.tensors.map(\.name) })
        if !idle.isEmpty {
            notes.append(
                "parameters of the recipe that change nothing in a merge by \(recipe.method): " + idle.joined(separator: ", "))
        }
        let emptied = emptiedVectors()
        if !emptied.isEmpty {
            notes.append("nothing is left of task vectors whose density is 0: " + emptied.joined(separator: ", "))
        }
    }

    /// - Throws: ``CairnError/Code/unsupported`` for a method that is not known, ``CairnError/Code/invalidArgument`` for
    ///   parameters that nothing is called or that cannot have their values.
    static func check(_ recipe: MergeRecipe) throws(CairnError) {
        guard RecipeMethod.known.contains(recipe.method) else {
            throw CairnError(
                .unsupported, "the merge method is not known",
                .init(
                    file: recipe.origin.file, expected: "one of " + RecipeMethod.known.joined(separator: ", "),
                    found: recipe.method))
        }
        for (scope, settings) in recipe.scopes {
            for (name, setting) in settings {
                guard let domain = ParameterDomain.all[name] else {
                    throw CairnError(
                        .invalidArgument, "\(scope): no parameter is called that",
                        .init(expected: ParameterDomain.all.keys.sorted().joined(separator: ", "), found: name))
                }
                guard let outside = domain.firstOutside(setting) else { continue }
                throw CairnError(
                    .invalidArgument, recipe.prefix(of: "\(scope).\(name)") + "the value cannot be",
                    .init(file: recipe.origin.file, expected: domain.words, found: "\(outside)"))
            }
        }
    }

    /// The models of whose task vectors nothing is left somewhere.
    private func emptiedVectors() -> [String] {
        var counts: [Int: Int] = [:]
        for tensor in tensors where tensor.tiedTo == nil {
            guard case .taskVectors(let method) = tensor.method else { continue }
            for (operand, sparsification) in zip(tensor.operands.dropFirst(), method.sparsifications) {
                switch sparsification {
                case .largest(0), .random(0), .middle(0, _): counts[operand.input, default: 0] += 1
                default: break
                }
            }
        }
        return counts.sorted { $0.key < $1.key }.map { "\(inputs[$0.key].reader.source) in \($0.value) tensors" }
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
        // The base that is added is not in the recipe, and no parameters.
        let paths = ("", all.indices.map(MergeRecipe.path(ofModel:)))
        let counts = LayerName.counts(in: reader(first.model))
        for tensor in reader(first.model).tensors {
            let position = LayerName(tensor.name).map { name in
                let count = counts[name.prefix] ?? 1
                return count > 1 ? Double(name.layer) / Double(count - 1) : 1
            }
            try add(tensor.name, slice, paths, names: all.map { _ in tensor.name }, position: position ?? 0)
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
        let paths = slices.enumerated().map { index, slice in
            (
                slice: MergeRecipe.path(ofSlice: index),
                sources: slice.sources.indices.map { MergeRecipe.path(ofSlice: index, source: $0) }
            )
        }
        for (slice, paths) in zip(slices, paths) { try plan(slice, paths, layer: &layer) }
        for tensor in reader(first.sources[0].model).tensors where LayerName(tensor.name) == nil {
            let isFirst = Self.isBeforeLayers(tensor.name), slice = isFirst ? first : last
            try add(
                tensor.name, slice, paths[isFirst ? 0 : slices.count - 1], names: slice.sources.map { _ in tensor.name },
                position: 0)
        }
    }

    private mutating func plan(
        _ slice: MergeRecipe.Slice, _ paths: (slice: String, sources: [String]), layer: inout Int
    ) throws(CairnError) {
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
                    name.name(ofLayer: layer), slice, paths,
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
        _ name: String, _ slice: MergeRecipe.Slice, _ paths: (slice: String, sources: [String]), names: [String],
        position: Double
    ) throws(CairnError) {
        let base = slice.baseModel ?? recipe.baseModel
        var sources = Array(zip(slice.sources, names))
        for (source, name) in sources where reader(source.model).tensors.position(of: name) == nil {
            problems.append("\(reader(source.model).source) has no tensor \"\(name)\"")
            return
        }
        let method = RecipeMethod(
            recipe: recipe, slice: slice, paths: paths, use: use, tensor: name, position: position, base: base)
        let made: (method: MergeMethod, hasBase: Bool)
        do throws(CairnError) {
            made = try method.make(names: names)
        } catch {
            throw error.adding(.init(file: recipe.origin.file, tensor: name))
        }
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
        var positions: [ExactString: Int] = [:]
        for (index, tensor) in tensors.enumerated() { positions[ExactString(tensor.name)] = index }
        for index in tensors.indices {
            var target: String?
            let isTied = tensors[index].operands.allSatisfy { operand in
                let all = inputs[operand.input].reader.tensors
                guard let tied = all.position(of: operand.name).flatMap({ all[$0].tiedTo }) else { return false }
                if target == nil { target = tied }
                return target == tied
            }
            guard isTied, let target, let original = positions[ExactString(target)],
                tensors[original].method == tensors[index].method,
                tensors[original].operands.map(\.input) == tensors[index].operands.map(\.input),
                tensors[original].operands.allSatisfy({ $0.name == target })
            else { continue }
            tensors[index].tiedTo = target
        }
    }
}
