import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// Finds out, from metadata alone, what a logical checkpoint is as shards on a mesh, and everything that does not fit.
struct ShardingBinding: Sendable {
    /// A whole foreign tensor and what it is read from.
    struct Part: Sendable {
        var rule: Int
        var key: [String]
        /// The slot of a stack.
        var slot: Int
        /// Which of the rule's foreign names.
        var index: Int
        var source: any TensorView
        var sharded: ShardedShape
    }

    private(set) var parts: [Part] = []
    private(set) var problems: [RuleProblem] = []
    let specification: CompiledSpecification
    let context: EvaluationContext
    let buffers: BoundBuffers
    /// What casts lose.
    let ledger = LossLedger()
    private let reader: any CheckpointReader

    var mesh: DeviceMesh { context.mesh }

    init(
        _ specification: CompiledSpecification, mesh: DeviceMesh, reader: any CheckpointReader, allowsLosses: Bool
    ) throws(CairnError) {
        self.specification = specification
        self.reader = reader
        context = EvaluationContext(parameters: specification.parameters, mesh: mesh)
        buffers = try BoundBuffers(specification.specification.buffers, in: context)
        try bind(allowsLosses: allowsLosses)
    }

    private mutating func bind(allowsLosses: Bool) throws(CairnError) {
        if !allowsLosses {
            for compiled in specification.rules where compiled.moment == nil && !compiled.rule.isForGatheringOnly {
                for reason in compiled.lossReasons {
                    problems.append(
                        RuleProblem(
                            compiled.label,
                            CairnError(
                                .unsupported, "it works in one direction only: \(reason)",
                                .init(advice: "leave the rule out, or allow losses"))))
                }
            }
        }
        let found = try claim()
        for id in found.keys.sorted() {
            guard let cells = found[id] else { continue }
            let compiled = specification.rules[id.rule]
            do throws(CairnError) {
                try bind(compiled, id, cells)
            } catch {
                problems.append(RuleProblem(compiled.label, error))
            }
        }
        let used = Set(found.keys.map { specification.rules[$0.rule].ruleIndex })
        for (index, rule) in specification.specification.rules.enumerated()
        where !used.contains(index) && !rule.isOptional && !rule.isForGatheringOnly && rule.outcome != .drop {
            problems.append(
                RuleProblem(
                    "rule \"\(rule.name)\"",
                    CairnError(
                        .notFound, "it matches nothing",
                        .init(
                            file: reader.source, expected: rule.to.joined(separator: ", "),
                            advice: "correct the pattern, or mark the rule optional"))))
        }
        try checkShapes()
        checkCodes(found)
    }

    /// Weights in codes are moved, never computed with.
    private mutating func checkCodes(_ found: [InstanceID: Cells]) {
        let computing = found.filter { specification.rules[$0.key.rule].computes }
        guard !computing.isEmpty else { return }
        let quantised = QuantisedWeights(in: reader.tensors)
        for (id, cells) in computing.sorted(by: { $0.key < $1.key }) {
            let names = Set(cells.values.map { ExactString($0.name) })
            do throws(CairnError) {
                try quantised.refuse("a rule that casts, adds up or averages", of: reader.source) { name in
                    names.contains(ExactString(name))
                }
            } catch {
                problems.append(RuleProblem(specification.rules[id.rule].label, error))
            }
        }
    }

    /// What matrices of one layer prove of each other.
    private mutating func checkShapes() throws(CairnError) {
        var matrices: [ShapeProofs.Matrix] = []
        for part in parts where part.source.shape.dimensionCount == 2 {
            let compiled = specification.rules[part.rule]
            for rank in 0..<mesh.rankCount {
                guard let captures = try captures(compiled, part.key, part.slot, rank: rank) else { continue }
                matrices.append(
                    ShapeProofs.Matrix(
                        rule: part.rule, rank: rank,
                        name: try compiled.from[part.index].name(captures, in: context.at(rank: rank)),
                        shape: part.source.shape))
                break
            }
        }
        for problem in ShapeProofs(specification: specification, context: context).problems(matrices) {
            problems.append(problem)
        }
    }

    private typealias Cells = [CellID: TensorDescription]

    private mutating func claim() throws(CairnError) -> [InstanceID: Cells] {
        let claims = try NameClaims(logical: specification, in: context)
        var found: [InstanceID: Cells] = [:]
        var unclaimed: Set<ExactString> = []
        for tensor in reader.tensors {
            var claimed: [NameClaims.Claim] = []
            for claim in claims.claims(on: tensor.name) where try !isExcepted(claim) { claimed.append(claim) }
            guard let claim = claimed.first else {
                unclaimed.insert(ExactString(tensor.name))
                continue
            }
            if claimed.count > 1 {
                let labels = claimed.map { specification.rules[$0.rule].label }
                problems.append(RuleProblem(nil, NameClaims.contested(tensor.name, labels, in: reader.source)))
                continue
            }
            let compiled = specification.rules[claim.rule]
            let id = InstanceID(
                rule: claim.rule, key: compiled.fieldTexts.map { ExactString(claim.fields[$0] ?? "") })
            var cell = CellID(slot: 0, index: claim.index)
            if let capture = compiled.unstackCapture {
                guard let slot = claim.fields[capture].flatMap(CanonicalNumber.parse) else {
                    problems.append(
                        RuleProblem(
                            compiled.label,
                            CairnError(
                                .mismatch, "the slot of a logical name is not a number", .init(tensor: tensor.name))))
                    continue
                }
                cell.slot = slot
            }
            found[id, default: [:]][cell] = tensor
        }
        if !unclaimed.isEmpty {
            problems.insert(RuleProblem(nil, NameClaims.unclaimed(unclaimed, in: reader.source, "logical")), at: 0)
        }
        try addTies(to: &found)
        return found
    }

    /// Whether the foreign name that a claim leads to is one that its rule leaves out.
    private func isExcepted(_ claim: NameClaims.Claim) throws(CairnError) -> Bool {
        let compiled = specification.rules[claim.rule]
        guard !compiled.except.isEmpty else { return false }
        let key = compiled.fieldTexts.map { claim.fields[$0] ?? "" }
        for rank in representatives(of: compiled.namingAxes) {
            guard let captures = try captures(compiled, key, 0, rank: rank) else { continue }
            let here = context.at(rank: rank)
            for template in compiled.from {
                let name = try template.name(captures, in: here)
                for except in compiled.except where try NameMatcher(except, captures: [], in: here).match(name) != nil {
                    return true
                }
            }
        }
        return false
    }

    /// A tie whose own name the logical checkpoint does not list is read from its target.
    private func addTies(to found: inout [InstanceID: Cells]) throws(CairnError) {
        for (index, compiled) in specification.rules.enumerated() {
            guard let target = compiled.tieTarget, !compiled.rule.isForGatheringOnly else { continue }
            let matcher = try NameMatcher(logical: target, specification.axes, in: context)
            for tensor in reader.tensors {
                guard let texts = matcher.match(tensor.name) else { continue }
                let fields = Dictionary(zip(matcher.fieldNames, texts), uniquingKeysWith: { first, _ in first })
                let key = compiled.fieldTexts.map { ExactString(fields[$0] ?? "") }
                let id = InstanceID(rule: index, key: key)
                if found[id] == nil { found[id] = [CellID(slot: 0, index: 0): tensor] }
            }
        }
    }

    private mutating func bind(_ compiled: CompiledRule, _ id: InstanceID, _ cells: Cells) throws(CairnError) {
        let key = id.key.map(\.string)
        let name = compiled.logicalName(compiled.to[0], key: key, unstackSlot: 0)
        let slotCount = try CompiledRule.slotCount(of: cells.keys, named: name)
        var rows: TensorRows = []
        for slot in 0..<slotCount {
            var row: [any TensorView] = []
            for index in compiled.to.indices {
                guard let tensor = cells[CellID(slot: slot, index: index)] else {
                    throw CairnError(
                        .incomplete, "a logical tensor that the foreign one is made of is missing",
                        .init(
                            tensor: compiled.logicalName(compiled.to[index], key: key, unstackSlot: slot)))
                }
                row.append(ReaderView(reader, tensor))
            }
            rows.append(row)
        }
        do throws(CairnError) {
            let application = TransformApplication(
                context: context, recorder: LossRecorder(ledger: ledger, tensor: name))
            let results = try application.backward(rows, compiled.transforms, inputCount: compiled.from.count)
            for (slot, row) in results.enumerated() {
                guard row.count == compiled.from.count else {
                    throw CairnError(
                        .mismatch, "the transforms make another number of tensors than there are foreign names",
                        .init(expected: "\(compiled.from.count)", found: "\(row.count)"))
                }
                for (index, source) in row.enumerated() {
                    let sharded = try shardedShape(compiled, key, slot, index, source)
                    parts.append(
                        Part(rule: id.rule, key: key, slot: slot, index: index, source: source, sharded: sharded))
                }
            }
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }

    private func shardedShape(
        _ compiled: CompiledRule, _ key: [String], _ slot: Int, _ index: Int, _ source: any TensorView
    ) throws(CairnError) -> ShardedShape {
        if let expected = compiled.moment?.scalarType, expected != source.scalarType {
            throw CairnError(
                .mismatch, "an optimizer moment has another element type than the specification says",
                .init(expected: "\(expected)", found: "\(source.scalarType)"))
        }
        if let written = compiled.rule.shape {
            let shape = try context.numbers(written)
            guard shape == source.shape.extents else {
                throw CairnError(
                    .mismatch, "a tensor has another shape than the rule says",
                    .init(expected: "\(shape)", found: "\(source.shape)"))
            }
        }
        let implicit = compiled.namingAxes.filter { axis in !compiled.placement.contains { $0.axis == axis } }
        var presence: [String: Set<Int>] = [:]
        var names: [Int: String] = [:]
        var holders = 0
        for rank in representatives(of: implicit) {
            guard let captures = try captures(compiled, key, slot, rank: rank) else { continue }
            holders += 1
            names[rank] = try compiled.from[index].name(captures, in: context.at(rank: rank))
            for axis in implicit {
                if let coordinate = mesh.coordinate(ofRank: rank, along: axis) {
                    presence[axis, default: []].insert(coordinate)
                }
            }
        }
        guard holders > 0 else {
            throw CairnError(
                .mismatch, "no rank of the mesh has a name for the tensor",
                .init(found: "mesh \(mesh)", advice: "check the ranges of the captures and the arithmetic of the name"))
        }
        guard presence.values.reduce(1, { $0 * $1.count }) == holders else {
            throw CairnError(
                .unsupported,
                "the ranks that have a name for the tensor are not the same on every coordinate of an axis")
        }
        let flattenedNames = try compiled.placement.isFlattened ? allNames(compiled, key, slot, index) : names
        let resolution = PlacementResolution(context: context, buffers: buffers)
        let layout = try resolution.layout(
            compiled.placement, shape: source.shape, presence: presence.mapValues { $0.sorted() },
            localNames: flattenedNames)
        return try ShardedShape(layout, shape: source.shape)
    }

    /// A rank for each combination of coordinates on some axes.
    private func representatives(of axes: Set<String>) -> [Int] {
        var combinations: [[Int]] = [[]]
        for axis in mesh.axes {
            let coordinates = axes.contains(axis.name) ? 0..<axis.size : 0..<1
            combinations = combinations.flatMap { start in coordinates.map { start + [$0] } }
        }
        return combinations.map(mesh.rank(at:))
    }

    private func allNames(
        _ compiled: CompiledRule, _ key: [String], _ slot: Int, _ index: Int
    ) throws(CairnError) -> [Int: String] {
        var names: [Int: String] = [:]
        for rank in 0..<mesh.rankCount {
            guard let captures = try captures(compiled, key, slot, rank: rank) else { continue }
            names[rank] = try compiled.from[index].name(captures, in: context.at(rank: rank))
        }
        return names
    }

    /// What the captures of the foreign name are on a rank; `nil` where it has no name for the tensor.
    private func captures(
        _ compiled: CompiledRule, _ key: [String], _ slot: Int, rank: Int
    ) throws(CairnError) -> [String: String]? {
        let here = context.at(rank: rank)
        var bounds: [String: NameMatcher.Field] = [:]
        for case .capture(let name, let bound) in compiled.from.flatMap(\.pieces) {
            let field = try NameMatcher.field(bound, in: here)
            if bounds[name] == nil || field != .segment { bounds[name] = field }
        }
        var trees: [String: Arithmetic] = [:]
        for case .expression(let tree, let text) in compiled.to.flatMap(\.pieces) { trees[text] = tree }
        var texts: [String: String] = [:]
        var numbers: [(form: LinearForm, value: Int)] = []
        for (text, value) in zip(compiled.fieldTexts, key) {
            guard let tree = trees[text] else {
                texts[text] = value
                continue
            }
            guard let number = CanonicalNumber.parse(value) else { return nil }
            numbers.append((try LinearForm(tree, captures: compiled.captureNames, in: here), number))
        }
        if let stackSlot = compiled.stackSlot {
            numbers.append((try LinearForm(stackSlot, captures: compiled.captureNames, in: here), slot))
        }
        return CaptureSolver(bounds: bounds).solve(texts: texts, numbers: numbers)
    }

    /// The foreign tensors of a rank, by name: what each is read from.
    func locals(ofRank rank: Int) throws(CairnError) -> [(name: String, source: any TensorView)] {
        var locals: [(name: String, source: any TensorView)] = []
        for part in parts {
            let compiled = specification.rules[part.rule]
            guard let mapping = LocalMapping(part.sharded, rank: rank),
                let captures = try captures(compiled, part.key, part.slot, rank: rank)
            else { continue }
            let name = try compiled.from[part.index].name(captures, in: context.at(rank: rank))
            var source = part.source
            if compiled.placement.reduction == .sum, part.sharded.partialIndex(ofRank: rank) != 0 {
                source = ZeroView(source.scalarType, source.shape)
            }
            locals.append((name, MappedView([source], mapping, source.scalarType)))
        }
        return locals
    }
}
