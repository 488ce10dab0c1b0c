public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// A checkpoint that is made of others as it is read: an average, an interpolation, a merge by any method.
///
/// Making one compares the inputs' schemas and reads no tensor. Each region that is read is computed from the same regions of
/// the inputs, in chunks on several threads, so memory stays at a few buffers whatever the sizes; methods that need to know
/// something of whole tensors (a norm, a threshold) stream through them once or twice when the tensor is first read.
///
/// ```swift
/// let average = try MergedCheckpoint(averaging: [MergeInput(a), MergeInput(b)])
/// try copyCheckpoint(from: average, to: SafeTensorsWriter(path: "average.safetensors"))
/// ```
public struct MergedCheckpoint: CheckpointReader {
    public var format: String { "merge" }
    public let source: String
    public let tensors: [TensorDescription]
    public private(set) var values: [NamedValue]
    /// What the result is made from, and how.
    public private(set) var lineage: Lineage
    /// What did not go without saying, a sentence each.
    public var notes: [String] { notesOfCaller + [valueNote].compactMap(\.self) + statistics }

    private let notesOfCaller: [String]
    /// Whose values are taken, where the inputs have different ones.
    private var valueNote: String?
    private let statistics: [String]
    private let readers: [any CheckpointReader]
    private let ledger: LossLedger
    /// The input that gives the values.
    private let valued: (any CheckpointReader)?
    /// Parallel to `tensors`, but for ties.
    private let prepared: [PreparedTensor?]

    /// A merge of tensors each by its own recipe.
    ///
    /// - Parameters:
    ///   - values: The values of the result; `nil` for those of the first input.
    ///   - lineage: What the result's lineage says.
    /// - Throws: ``CairnError/Code/mismatch`` for operands that do not fit together, ``CairnError/Code/notFound`` for those
    ///   that are not there, ``CairnError/Code/invalidArgument`` for methods that cannot be, ``CairnError/Code/unsupported``
    ///   for weights in codes (``QuantisedWeights``); each names the tensor.
    package init(
        _ inputs: [MergeInput], recipes: [TensorRecipe], values: [NamedValue]? = nil, lineage: Lineage,
        options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        try self.init(inputs, recipes: recipes, values: values, lineage: lineage, options: options, notes: [])
    }

    /// The same with notes of the caller that made the recipes.
    ///
    /// - Parameter isOneModel: Whether the other inputs only change the first, so that it means nothing how they differ.
    init(
        _ inputs: [MergeInput], recipes: [TensorRecipe], values: [NamedValue]? = nil, lineage: Lineage,
        options: MergeOptions, notes: [String], isOneModel: Bool = false
    ) throws(CairnError) {
        try Self.refuseCodes(inputs, recipes)
        let workspaces = RecyclingPool<Workspace>()
        let ledger = LossLedger()
        var made: [(description: TensorDescription, prepared: PreparedTensor?)] = []
        for recipe in recipes {
            do throws(CairnError) {
                made.append(try Self.bind(recipe, inputs, options, workspaces, ledger))
            } catch {
                throw error.adding(.init(tensor: recipe.name))
            }
        }
        made.sort { ExactString($0.description.name) < ExactString($1.description.name) }
        for (one, next) in zip(made, made.dropFirst()) where one.description.name.utf8.elementsEqual(next.description.name.utf8) {
            throw CairnError(.invalidArgument, "two tensors of the result have one name", .init(tensor: one.description.name))
        }
        tensors = made.map(\.description)
        prepared = made.map(\.prepared)
        for tensor in tensors {
            guard let target = tensor.tiedTo else { continue }
            guard let position = tensors.position(of: target), tensors[position].tiedTo == nil,
                tensors[position].shape == tensor.shape, tensors[position].scalarType == tensor.scalarType
            else {
                throw CairnError(
                    .invalidArgument, "a tensor is tied to one that is not there or is another",
                    .init(tensor: tensor.name, expected: target))
            }
        }
        self.values = values ?? inputs.first?.reader.values ?? []
        self.lineage = lineage
        source = "\(lineage.operation) of " + inputs.map(\.reader.source).joined(separator: ", ")
        readers = inputs.map(\.reader)
        self.ledger = ledger
        valued = values.map { values in inputs.last { $0.reader.values == values }?.reader } ?? inputs.first?.reader
        let statistics = inputs.count > 1 ? BatchStatistics.note(of: tensors) : nil
        valueNote = isOneModel ? nil : Self.valueNote(readers, valued)
        notesOfCaller = notes
        self.statistics = isOneModel ? [] : statistics.map { [$0] } ?? []
    }

    /// That of an input with just these tensors and values; else tensors lie flat under their names, and values are what they
    /// were in the input that they are from.
    public var structure: StateNode? {
        let names = tensors.map { ExactString($0.name) }
        let same = readers.filter { $0.values == values }
        if let whole = same.first(where: { $0.tensors.map { ExactString($0.name) } == names }) { return whole.structure }
        return same.first?.structure.map { StateNode(flat: tensors, values: values, of: $0) { $0 } }
    }

    public var losses: [LossNote]? { readers.flatMap { $0.losses ?? [] } + ledger.notes }

    public func rankValues() throws(CairnError) -> [RankValues] { try valued?.rankValues() ?? [] }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let (description, tensor) = try prepared(name)
        do {
            try region.check(inside: description.shape, of: description.scalarType, filling: destination.byteCount)
            guard region.elementCount > 0 else { return }
            try tensor.read(region, into: &destination)
        } catch {
            throw CairnError(wrapping: error, "a tensor could not be merged").adding(.init(file: source, tensor: name))
        }
    }

    /// The coefficients of the operands of a tensor, where its method has any, found out by a look at the operands if that
    /// takes one: what a SLERP or a model stock came to.
    ///
    /// - Throws: ``CairnError/Code/notFound``, and what reading throws.
    package func coefficients(of name: String) throws -> [Double]? {
        let (_, tensor) = try prepared(name)
        switch (try tensor.evaluated(), tensor.method) {
        case (.combination(let coefficients, let divisor, _), _): return coefficients.map { $0 / (divisor ?? 1) }
        case (.tasks(let tasks, _, _), .multiSlerp), (.tasks(let tasks, _, _), .modelStock):
            return [1 - tasks.reduce(0) { $0 + $1.weight }] + tasks.map(\.weight)
        default: return nil
        }
    }

    /// The same tensors with other values and another lineage.
    package func replacing(values: [NamedValue], lineage: Lineage) -> MergedCheckpoint {
        var copy = self
        copy.values = values.sorted { ExactString($0.name) < ExactString($1.name) }
        copy.lineage = lineage
        if valueNote != nil, let valued = readers.last(where: { $0.values == values }) {
            copy.valueNote = Self.valueNote(readers, valued)
        }
        return copy
    }

    private func prepared(_ name: String) throws(CairnError) -> (TensorDescription, PreparedTensor) {
        var position = try tensors.requiredPosition(of: name, in: source)
        if let target = tensors[position].tiedTo { position = tensors.position(of: target) ?? position }
        guard let tensor = prepared[position] else { throw CairnError.noTensor(name, in: source) }
        return (tensors[position], tensor)
    }
}

extension MergedCheckpoint {
    private static func refuseCodes(_ inputs: [MergeInput], _ recipes: [TensorRecipe]) throws(CairnError) {
        for (index, input) in inputs.enumerated() {
            let quantised = QuantisedWeights(in: input.reader.tensors)
            guard !quantised.isEmpty else { continue }
            let taken = recipes.flatMap(\.operands).filter { $0.input == index }.map { ExactString($0.name) }
            let names = Set(taken)
            try quantised.refuse("a merge", of: input.reader.source) { names.contains(ExactString($0)) }
        }
    }

    private static func bind(
        _ recipe: TensorRecipe, _ inputs: [MergeInput], _ options: MergeOptions, _ workspaces: RecyclingPool<Workspace>,
        _ ledger: LossLedger
    ) throws(CairnError) -> (description: TensorDescription, prepared: PreparedTensor?) {
        var operands: [MergeOperand] = []
        for operand in recipe.operands { operands.append(try find(operand, inputs, options)) }
        guard let first = operands.first else {
            throw CairnError(.invalidArgument, "a tensor of the result is made of nothing")
        }
        for operand in operands where operand.description.shape != first.description.shape {
            throw CairnError(
                .mismatch, "tensors that are merged have different shapes",
                .init(
                    file: operand.reader.source, tensor: operand.description.name,
                    expected: "\(first.description.shape) as in \(first.reader.source)",
                    found: "\(operand.description.shape)"))
        }
        let (type, isCopied) = try resultType(operands, options)
        let description = TensorDescription(
            name: recipe.name, scalarType: recipe.scalarType ?? type, shape: first.description.shape,
            tiedTo: recipe.tiedTo)
        guard recipe.tiedTo == nil else { return (description, nil) }
        if !isCopied { try check(recipe.method, operandCount: operands.count) }
        var updates: [BoundUpdate] = []
        for update in recipe.updates {
            updates.append(
                try BoundUpdate(update, of: first.description) { operand throws(CairnError) in
                    try find(operand, inputs, options)
                })
        }
        // Counters of batches differ in any two checkpoints of a run; the average of its statistics belongs to none.
        var options = options
        if isCopied, options.otherTensors == .equal, BatchStatistics.isCounter(recipe.name) { options.otherTensors = .last }
        let copied = isCopied ? (options.otherTensors == .last ? operands.count - 1 : 0) : nil
        return (
            description,
            PreparedTensor(
                description, operands: operands, method: recipe.method, updates: updates, copied: copied,
                options: options, workspaces: workspaces, ledger: ledger)
        )
    }

    private static func find(
        _ operand: TensorRecipe.Operand, _ inputs: [MergeInput], _ options: MergeOptions
    ) throws(CairnError) -> MergeOperand {
        guard inputs.indices.contains(operand.input) else {
            throw CairnError(
                .invalidArgument, "no such input takes part",
                .init(expected: "0..<\(inputs.count)", found: "\(operand.input)"))
        }
        let reader = inputs[operand.input].reader
        return try MergeOperand(reader, reader.description(of: operand.name), maps: options.mapped)
    }

    /// The type of the result, and whether one operand is taken as it is because there is no average.
    private static func resultType(
        _ operands: [MergeOperand], _ options: MergeOptions
    ) throws(CairnError) -> (ScalarType, isCopied: Bool) {
        var type = operands[0].description.scalarType
        let hasAverage = operands.allSatisfy { $0.description.scalarType.hasAverage }
        for operand in operands where operand.description.scalarType != type {
            guard hasAverage, options.promotesTypes else {
                throw CairnError(
                    .mismatch, "tensors that are merged have elements of different types",
                    .init(
                        file: operand.reader.source, tensor: operand.description.name,
                        expected: "\(type) as in \(operands[0].reader.source)",
                        found: "\(operand.description.scalarType)",
                        advice: "cast the inputs, or let types be promoted"))
            }
            type = type.promoted(with: operand.description.scalarType)
        }
        guard hasAverage, let outputType = options.outputType else { return (type, !hasAverage) }
        guard outputType.kernelNumber != nil, outputType.isFloatingPoint else {
            throw CairnError(
                .unsupported, "a merge does not write elements of this type", .init(found: "\(outputType)"))
        }
        return (outputType, false)
    }

    private static func check(_ method: MergeMethod, operandCount: Int) throws(CairnError) {
        let problem: String, advice: String?
        do throws(MergeMethodProblem) {
            let expected = try method.operandCount()
            if expected.contains(operandCount) { return }
            advice = nil
            problem =
                "the method takes "
                + (expected.count == 1 ? "\(expected.lowerBound)" : "\(expected.lowerBound) to \(expected.upperBound)")
                + " tensors, not \(operandCount)"
        } catch {
            (problem, advice) = (error.message, error.advice)
        }
        throw CairnError(.invalidArgument, problem, .init(advice: advice))
    }

    /// Says whose values are taken where the inputs have different ones.
    private static func valueNote(
        _ readers: [any CheckpointReader], _ valued: (any CheckpointReader)?
    ) -> String? {
        guard let valued else { return nil }
        let names = valued.values.filter { value in
            readers.contains { !$0.values.contains(value) }
        }.map(\.name)
        guard !names.isEmpty else { return nil }
        let shown = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")
        return "the inputs have different values; those of \(valued.source) are taken: \(shown)"
    }
}
