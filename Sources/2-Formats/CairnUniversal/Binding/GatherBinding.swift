import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// Finds out, from metadata alone, what the tensors of N shards become, and everything that does not fit.
struct GatherBinding {
    private(set) var instances: [BoundInstance] = []
    private(set) var problems: [RuleProblem] = []
    let specification: CompiledSpecification
    let mesh: DeviceMesh
    /// What casts and sums lose.
    let ledger = LossLedger()

    private let context: EvaluationContext
    private let shards: [UnpackedReader]
    private let buffers: BoundBuffers
    private let verifiesReplicas: Bool
    private let source: String

    /// What was found of an instance's cells, by rank.
    private typealias Cells = [CellID: [Int: TensorDescription]]

    /// - Throws: What makes binding impossible: an invalid specification, a mesh of another size, a flat buffer
    ///   that does not fit. Everything else is a problem.
    init(
        _ specification: CompiledSpecification, mesh: DeviceMesh, shards: [any CheckpointReader],
        verifiesReplicas: Bool
    ) throws(CairnError) {
        guard mesh.rankCount == shards.count else {
            throw CairnError(
                .invalidArgument, "the mesh has another number of ranks than there are shards",
                .init(expected: "\(mesh.rankCount) for the mesh \(mesh)", found: "\(shards.count) shards"))
        }
        self.specification = specification
        self.mesh = mesh
        self.verifiesReplicas = verifiesReplicas
        source = shards.first?.source ?? ""
        context = EvaluationContext(parameters: specification.parameters, mesh: mesh)
        buffers = try BoundBuffers(specification.specification.buffers, in: context)
        var unpacked: [UnpackedReader] = []
        for (rank, shard) in shards.enumerated() {
            unpacked.append(try UnpackedReader(shard, buffers: buffers.buffers(ofRank: rank), rank: rank))
        }
        self.shards = unpacked
        try bind()
    }

    private mutating func bind() throws(CairnError) {
        let found = try claim()
        // Parameters come first: the shape of an optimizer moment may follow from its parameter's.
        let order = found.keys.sorted()
        var shapes: [InstanceID: [CellID: Shape]] = [:]
        for id in order {
            guard let cells = found[id] else { continue }
            let compiled = specification.rules[id.rule]
            do throws(CairnError) {
                let parameter = InstanceID(rule: compiled.ruleIndex, key: id.key)
                let (instance, whole) = try bind(compiled, id, cells, parameterShapes: shapes[parameter] ?? [:])
                shapes[id] = whole
                instances.append(instance)
            } catch {
                problems.append(RuleProblem(compiled.label, error))
            }
        }
        checkUse(Set(found.keys.map(\.rule)))
        checkMoments(Set(found.keys))
        checkOutputs()
        checkShapes()
        checkCodes()
    }

    /// Weights in codes are moved, never computed with.
    private mutating func checkCodes() {
        let computing = instances.filter { specification.rules[$0.rule].computes }
        guard !computing.isEmpty else { return }
        let quantised = shards.map { QuantisedWeights(in: $0.tensors) }
        for instance in computing {
            for tensor in instance.foreign {
                guard let holder = tensor.localNames.min(by: { $0.key < $1.key }),
                    quantised[holder.key].weight(with: holder.value) != nil
                else { continue }
                do throws(CairnError) {
                    try quantised[holder.key].refuse("a rule that casts, adds up or averages", of: source) { name in
                        ExactString(name) == ExactString(holder.value)
                    }
                } catch {
                    problems.append(RuleProblem(specification.rules[instance.rule].label, error))
                }
            }
        }
    }

    /// What matrices of one layer prove of each other.
    private mutating func checkShapes() {
        let matrices = instances.flatMap { instance in
            let compiled = specification.rules[instance.rule]
            let isSplit =
                instance.foreign.count == 1 && instance.logical.count == 3
                && compiled.transforms.contains {
                    if case .split = $0 { true } else { false }
                }
            let queries = isSplit ? instance.logical[0].source.shape.extents.first : nil
            return instance.foreign.map { tensor in
                ShapeProofs.Matrix(
                    rule: instance.rule, rank: tensor.localNames.keys.min() ?? 0, name: tensor.name,
                    shape: tensor.sharded.shape, queryRows: queries)
            }
        }
        problems += ShapeProofs(specification: specification, context: context).problems(matrices)
    }

    // MARK: Claims

    private mutating func claim() throws(CairnError) -> [InstanceID: Cells] {
        let common = try NameClaims(foreign: specification, rank: nil, in: context)
        let dependsOnRank = specification.rules.contains { compiled in
            (compiled.from + compiled.except).contains { $0.dependsOnRank(specification.axes) }
        }
        var known: [ExactString: [NameClaims.Claim]] = [:]
        var found: [InstanceID: Cells] = [:]
        // The first rank that has it.
        var unclaimed: [ExactString: Int] = [:]
        var contested: Set<ExactString> = []
        for (rank, shard) in shards.enumerated() {
            let here = context.at(rank: rank)
            let own = dependsOnRank ? try NameClaims(foreign: specification, rank: rank, in: context) : nil
            for tensor in shard.tensors {
                let name = ExactString(tensor.name)
                var claims = known[name] ?? common.claims(on: tensor.name)
                known[name] = claims
                claims += own?.claims(on: tensor.name) ?? []
                guard let claim = claims.first else {
                    if unclaimed[name] == nil { unclaimed[name] = rank }
                    continue
                }
                if claims.count > 1 {
                    if contested.insert(name).inserted {
                        let labels = claims.map { specification.rules[$0.rule].label }
                        problems.append(
                            RuleProblem(
                                nil, NameClaims.contested(tensor.name, labels, in: shard.source, rank: rank)))
                    }
                    continue
                }
                do throws(CairnError) {
                    try add(tensor, claim, rank, here, to: &found)
                } catch {
                    problems.append(
                        RuleProblem(
                            specification.rules[claim.rule].label,
                            error.adding(.init(tensor: tensor.name, rank: rank))))
                }
            }
        }
        if let first = unclaimed.keys.min(), let rank = unclaimed[first] {
            let error = NameClaims.unclaimed(unclaimed.keys, in: shards[rank].source, rank: rank, "foreign")
            problems.insert(RuleProblem(nil, error), at: 0)
        }
        return found
    }

    private func add(
        _ tensor: TensorDescription, _ claim: NameClaims.Claim, _ rank: Int, _ here: EvaluationContext,
        to found: inout [InstanceID: Cells]
    ) throws(CairnError) {
        let compiled = specification.rules[claim.rule]
        let id: InstanceID
        var cell = CellID(slot: 0, index: claim.index)
        if compiled.rule.outcome == .drop {
            id = InstanceID(rule: claim.rule, key: [ExactString(tensor.name)])
        } else {
            id = InstanceID(rule: claim.rule, key: try compiled.key(claim.fields, in: here).map(ExactString.init))
            if let slot = compiled.stackSlot { cell.slot = try NameTemplate.number(slot, claim.fields, in: here) }
        }
        if let other = found[id, default: [:]][cell, default: [:]].updateValue(tensor, forKey: rank) {
            throw CairnError(
                .mismatch, "two tensors of one rank would be the same logical one",
                .init(tensor: tensor.name, rank: rank, found: "\"\(other.name)\" too"))
        }
    }

    // MARK: One instance

    private func bind(
        _ compiled: CompiledRule, _ id: InstanceID, _ cells: Cells, parameterShapes: [CellID: Shape]
    ) throws(CairnError) -> (BoundInstance, [CellID: Shape]) {
        if compiled.rule.outcome == .drop {
            return (BoundInstance(rule: id.rule, foreign: dropped(cells), logical: []), [:])
        }
        let key = id.key.map(\.string)
        let name = compiled.logicalName(compiled.to[0], key: key, unstackSlot: 0)
        let slotCount = try CompiledRule.slotCount(of: cells.keys, named: name)
        var foreign: [PlacedForeignTensor] = []
        var shapes: [CellID: Shape] = [:]
        var rows: TensorRows = []
        for slot in 0..<slotCount {
            var row: [any TensorView] = []
            for index in compiled.from.indices {
                let cell = CellID(slot: slot, index: index)
                guard let locals = cells[cell], !locals.isEmpty else {
                    throw CairnError(
                        .incomplete, "a foreign tensor that the logical one is made of is missing",
                        .init(
                            tensor: name,
                            expected: compiled.from[index].text + (slotCount > 1 ? ", slot \(slot)" : "")))
                }
                let (placed, source) = try whole(compiled, locals, parameterShapes[cell])
                foreign.append(placed)
                shapes[cell] = placed.sharded.shape
                row.append(source)
            }
            rows.append(row)
        }
        do throws(CairnError) {
            let application = TransformApplication(
                context: context, recorder: LossRecorder(ledger: ledger, tensor: name))
            let results = try application.forward(rows, compiled.transforms, outputCount: compiled.to.count)
            var logical: [(name: String, source: any TensorView)] = []
            for (slot, row) in results.enumerated() {
                guard row.count == compiled.to.count else {
                    throw CairnError(
                        .mismatch, "the transforms make another number of tensors than there are logical names",
                        .init(expected: "\(compiled.to.count)", found: "\(row.count)"))
                }
                for (template, source) in zip(compiled.to, row) {
                    logical.append((compiled.logicalName(template, key: key, unstackSlot: slot), source))
                }
            }
            let tied = compiled.tieTarget.map { compiled.logicalName($0, key: key, unstackSlot: nil) }
            var instance = BoundInstance(rule: id.rule, foreign: foreign, logical: logical, tiedTo: tied)
            for case .copy(let copies) in compiled.transforms {
                instance.originalCount = try application.counts(copies).parts * compiled.to.count
            }
            return (instance, shapes)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }

    private func dropped(_ cells: Cells) -> [PlacedForeignTensor] {
        var placed: [PlacedForeignTensor] = []
        for locals in cells.values {
            guard let first = locals.min(by: { $0.key < $1.key })?.value,
                let sharded = try? ShardedShape(.replicated(on: mesh), shape: first.shape)
            else { continue }
            placed.append(
                PlacedForeignTensor(
                    name: first.name, scalarType: first.scalarType, sharded: sharded,
                    localNames: locals.mapValues(\.name)))
        }
        return placed
    }

    /// The whole foreign tensor over its shards.
    private func whole(
        _ compiled: CompiledRule, _ locals: [Int: TensorDescription], _ parameterShape: Shape?
    ) throws(CairnError) -> (PlacedForeignTensor, any TensorView) {
        guard let first = locals.min(by: { $0.key < $1.key }) else {
            throw CairnError(.incomplete, "a tensor has no shards")
        }
        let name = first.value.name
        do throws(CairnError) {
            try checkTypes(compiled, locals, first.value.scalarType)
            let names = locals.mapValues(\.name)
            let shape = try wholeShape(compiled, locals, parameterShape)
            let resolution = PlacementResolution(context: context, buffers: buffers)
            let layout = try resolution.layout(
                compiled.placement, shape: shape, presence: presence(compiled, Set(locals.keys)), localNames: names)
            let sharded = try ShardedShape(layout, shape: shape)
            try checkShapes(sharded, locals)
            try sharded.proveCoverage()
            var sources = [(any TensorView)?](repeating: nil, count: shards.count)
            for (rank, tensor) in locals { sources[rank] = ReaderView(shards[rank], tensor) }
            let type = first.value.scalarType
            let partials = (0..<sharded.partialCount).map { partialIndex in
                ShardedView(
                    sharded: sharded, locals: sources, scalarType: type, partialIndex: partialIndex,
                    verifiesReplicas: verifiesReplicas, name: name)
            }
            let reduction = compiled.placement.reduction
            let placed = PlacedForeignTensor(
                name: name, scalarType: type, sharded: sharded, localNames: names, reduction: reduction)
            if let reduction {
                return (
                    placed,
                    try ReducedView(
                        partials, reduction, recorder: LossRecorder(ledger: ledger, tensor: name))
                )
            }
            return (placed, partials[0])
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }

    private func checkTypes(
        _ compiled: CompiledRule, _ locals: [Int: TensorDescription], _ type: ScalarType
    ) throws(CairnError) {
        if let other = locals.filter({ $0.value.scalarType != type }).min(by: { $0.key < $1.key }) {
            throw CairnError(
                .mismatch, "the shards have different element types",
                .init(rank: other.key, expected: "\(type)", found: "\(other.value.scalarType)"))
        }
        if let expected = compiled.moment?.scalarType, expected != type {
            throw CairnError(
                .mismatch, "an optimizer moment has another element type than the specification says",
                .init(expected: "\(expected)", found: "\(type)"))
        }
    }

    private func wholeShape(
        _ compiled: CompiledRule, _ locals: [Int: TensorDescription], _ parameterShape: Shape?
    ) throws(CairnError) -> Shape {
        if let written = compiled.rule.shape { return try Shape(checking: try context.numbers(written)) }
        guard compiled.placement.isFlattened else {
            return try WholeShapeInference.shape(
                of: locals.mapValues(\.shape), steps: compiled.placement, mesh: mesh)
        }
        if let parameterShape { return parameterShape }
        var shapes: [Int: Shape] = [:]
        for (rank, tensor) in locals {
            if let member = buffers.member(tensor.name, ofRank: rank) { shapes[rank] = member.shape }
        }
        guard !shapes.isEmpty else {
            throw CairnError(
                .invalidArgument, "flattened shards do not tell the shape of their tensor",
                .init(advice: "write the rule's shape, or hold them in a flat buffer that lists its members"))
        }
        return try WholeShapeInference.shape(of: shapes, steps: compiled.placement, mesh: mesh)
    }

    /// On which coordinates of the axes that its name depends on a tensor was found.
    private func presence(_ compiled: CompiledRule, _ ranks: Set<Int>) -> [String: [Int]] {
        var presence: [String: [Int]] = [:]
        for axis in compiled.namingAxes where !compiled.placement.contains(where: { $0.axis == axis }) {
            presence[axis] = Set(ranks.compactMap { mesh.coordinate(ofRank: $0, along: axis) }).sorted()
        }
        return presence
    }

    private func checkShapes(_ sharded: ShardedShape, _ locals: [Int: TensorDescription]) throws(CairnError) {
        let expected = (0..<mesh.rankCount).map(sharded.localShape(ofRank:))
        // Where it is comes first: a rank too few makes every inferred extent too small.
        for (rank, shape) in expected.enumerated() where (shape == nil) != (locals[rank] == nil) {
            guard let shape else {
                throw CairnError(
                    .mismatch, "a rank has a tensor that by the placement it does not hold",
                    .init(rank: rank, found: locals[rank].map { "\($0.shape)" }))
            }
            throw CairnError(
                .incomplete, "a rank lacks a tensor that by the placement it holds",
                .init(
                    rank: rank, expected: "\(shape)",
                    advice: "if only some coordinates of an axis hold it, say which by `present`"))
        }
        for (rank, shape) in expected.enumerated() {
            guard let shape, let found = locals[rank]?.shape, found != shape else { continue }
            throw CairnError(
                .mismatch, "a shard has another shape than by the placement it has",
                .init(rank: rank, expected: "\(shape) of \(sharded)", found: "\(found)"))
        }
    }

    // MARK: All instances

    private mutating func checkUse(_ used: Set<Int>) {
        let usedRules = Set(used.map { specification.rules[$0].ruleIndex })
        for (index, rule) in specification.specification.rules.enumerated()
        where !usedRules.contains(index) && !rule.isOptional {
            problems.append(
                RuleProblem(
                    "rule \"\(rule.name)\"",
                    CairnError(
                        .notFound, "it matches nothing",
                        .init(
                            file: source, expected: rule.from.joined(separator: ", "),
                            advice: "correct the pattern, or mark the rule optional"))))
        }
    }

    private mutating func checkMoments(_ found: Set<InstanceID>) {
        for (index, compiled) in specification.rules.enumerated() {
            guard let moment = compiled.moment, !moment.isOptional, compiled.rule.outcome != .drop else { continue }
            let parameters = found.filter { $0.rule == compiled.ruleIndex }
            let missing = parameters.filter { !found.contains(InstanceID(rule: index, key: $0.key)) }
            guard let first = missing.min() else { continue }
            let name = compiled.logicalName(compiled.to[0], key: first.key.map(\.string), unstackSlot: 0)
            problems.append(
                RuleProblem(
                    compiled.label,
                    CairnError(
                        .incomplete, "\(missing.count) of \(parameters.count) parameters lack the moment",
                        .init(
                            file: source, tensor: name, expected: compiled.from[0].text,
                            advice: "mark the moment optional, or say which moments the rule has"))))
        }
    }

    private mutating func checkOutputs() {
        var owners: [ExactString: (Int, TensorDescription)] = [:]
        for instance in instances {
            for (name, source) in instance.logical {
                let description = TensorDescription(name: name, scalarType: source.scalarType, shape: source.shape)
                guard let other = owners.updateValue((instance.rule, description), forKey: ExactString(name)) else {
                    continue
                }
                problems.append(
                    RuleProblem(
                        nil,
                        CairnError(
                            .mismatch,
                            "one logical tensor is made twice: by \(specification.rules[other.0].label) and "
                                + specification.rules[instance.rule].label,
                            .init(tensor: name))))
            }
        }
        let tiedNames = Set(instances.filter { $0.tiedTo != nil }.flatMap(\.logical).map { ExactString($0.name) })
        for instance in instances {
            guard let target = instance.tiedTo, let tied = instance.logical.first else { continue }
            let label = specification.rules[instance.rule].label
            guard let other = owners[ExactString(target)]?.1 else {
                problems.append(
                    RuleProblem(
                        label,
                        CairnError(
                            .notFound, "the tensor that this one is tied to is not there",
                            .init(tensor: tied.name, expected: target))))
                continue
            }
            guard !tiedNames.contains(ExactString(target)) else {
                problems.append(
                    RuleProblem(
                        label,
                        CairnError(
                            .mismatch, "a tensor is tied to one that is tied itself, so that neither would be stored",
                            .init(tensor: tied.name, found: target))))
                continue
            }
            guard other.shape == tied.source.shape, other.scalarType == tied.source.scalarType else {
                problems.append(
                    RuleProblem(
                        label,
                        CairnError(
                            .mismatch, "a tensor differs in type or shape from the one that it is tied to",
                            .init(
                                tensor: tied.name, expected: "\(other.scalarType)\(other.shape) of \"\(target)\"",
                                found: "\(tied.source.scalarType)\(tied.source.shape)"))))
                continue
            }
        }
    }
}

extension [On] {
    /// Whether shards are stretches of a row-major run.
    var isFlattened: Bool {
        contains { if case .flatten = $0.placement { true } else { false } }
    }

    /// How partial values become the tensor, if the placement is partial.
    var reduction: Reduction? {
        for step in self { if case .partial(let reduction) = step.placement { return reduction } }
        return nil
    }
}
