import CairnBase
import CairnCheckpoint
import CairnTensor

/// What becomes of every lost tensor of a checkpoint.
struct RecoveryPlan {
    let tensors: [TensorDescription]
    /// What is read in the place of a lost tensor.
    private(set) var made: [ExactString: any TensorView] = [:]
    /// Weights that are made up, and of what.
    private(set) var approximate: [(name: String, origin: String)] = []
    /// What follows from other tensors that are left.
    private var restored: [(name: String, origin: String)] = []
    /// What starts from zero.
    private var reset: [String] = []
    private(set) var notes: [String] = []
    private(set) var steps = StepReset(states: [], trainerStep: nil)
    let absentCount: Int
    let ledger = LossLedger()

    private let base: any CheckpointReader
    private let recovery: LossRecovery
    private let options: RecoveryOptions
    private let lostNames: Set<ExactString>
    private let stacks: LayerStacks
    private let states: ParameterStates
    private var weights: NeighbourNorms
    private var recipes: [TensorRecipe] = []

    init(
        _ base: any CheckpointReader, lost: LostTensors, _ recovery: LossRecovery, _ options: RecoveryOptions
    ) throws {
        let older: (any CheckpointReader)? = if case .older(let reader) = recovery { reader } else { nil }
        let absent = try LayerStacks.absent(lost, ParameterStates(base.tensors), in: base, older: older)
        absentCount = absent.count
        tensors = (base.tensors + absent).sorted { ExactString($0.name) < ExactString($1.name) }
        states = ParameterStates(tensors)
        self.base = base
        self.recovery = recovery
        self.options = options
        let given = Set((lost.names + absent.map(\.name)).map { ExactString($0) })
        guard !given.isEmpty else {
            throw CairnError(
                .notFound,
                lost.patterns.isEmpty ? "nothing of the checkpoint is lost" : "a pattern fits no tensor of the checkpoint",
                .init(
                    file: base.source, found: lost.patterns.isEmpty ? nil : lost.patterns.joined(separator: " "),
                    advice: lost.patterns.isEmpty ? nil : "list the names with `cairn inspect`, and correct it"))
        }
        var all = given
        if lost.takesState {
            for state in states.all where state.isWeightLost(given) {
                for (_, tensor) in state.parts where tensor.tiedTo == nil { all.insert(ExactString(tensor.name)) }
            }
        }
        lostNames = all
        let touched = states.all.filter { $0.parts.contains { all.contains(ExactString($0.tensor.name)) } }
        let invented = touched.filter { $0.isWeightInvented(all) }
        stacks = LayerStacks(states, lost: invented, source: base.source)
        weights = NeighbourNorms(base, states, options)
        if older == nil { try Self.requireLayers(invented, base) }
        try requireKnown(all)
        for state in touched { try recover(state) }
        if !recipes.isEmpty {
            let merged = try MergedCheckpoint(
                [MergeInput(base)], recipes: recipes, values: [], lineage: Lineage(operation: RecoveredCheckpoint.operation),
                options: options.merging)
            for recipe in recipes { made[ExactString(recipe.name)] = ReaderView(merged, try merged.description(of: recipe.name)) }
        }
        for state in touched { try derive(state) }
        notes += weights.notes
        addNotes(touched)
    }

    /// Only an older checkpoint has something for what is in no layer.
    private static func requireLayers(_ states: [ParameterState], _ base: any CheckpointReader) throws(CairnError) {
        let others = states.filter { $0.layer == nil }.map(\.name)
        guard let first = others.first else { return }
        throw CairnError(
            .unsupported,
            "\(others.count) lost tensors are in no numbered layer, so that none stands beside them: "
                + NameList.text(others),
            .init(
                file: base.source, tensor: first,
                advice: "take them from an older checkpoint (--from older:STEP), or leave them out of the pattern"))
    }

    /// An optimizer's tensor that is lost must be of a parameter that is known by name.
    private func requireKnown(_ lost: Set<ExactString>) throws(CairnError) {
        if case .older = recovery { return }
        guard let name = states.unnamed.first(where: { lost.contains(ExactString($0)) }) else { return }
        throw CairnError(
            .unsupported, "a lost tensor belongs to an optimizer, and its name does not tell to which parameter",
            .init(
                file: base.source, tensor: name,
                advice: "take it from an older checkpoint (--from older:STEP), or leave the optimizer out"))
    }

    private func isLost(_ tensor: TensorDescription) -> Bool { lostNames.contains(ExactString(tensor.name)) }

    /// Says where each lost part of a parameter comes from that does not follow from another part.
    private mutating func recover(_ state: ParameterState) throws {
        if case .older(let reader) = recovery {
            for (part, tensor) in state.parts where isLost(tensor) { try takeOlder(part, tensor, reader) }
            return
        }
        let isInvented = state.isWeightInvented(lostNames)
        if isInvented {
            for (part, tensor) in state.parts where isLost(tensor) && !part.kind.isOptimizerState {
                // A rounded weight follows from its master copy, whether that is made up or not.
                if part.kind == .parameter, !state.parts(.master).isEmpty { continue }
                try invent(part, tensor)
            }
        }
        let isReset = isInvented || state.parts.contains { $0.part.kind.isOptimizerState && isLost($0.tensor) }
        guard isReset else { return }
        for (part, tensor) in state.parts where part.kind.isOptimizerState {
            made[ExactString(tensor.name)] = ZeroView(tensor.scalarType, tensor.shape)
            reset.append(tensor.name)
        }
    }

    /// Makes what follows from other parts of the parameter: rounded weights of master copies, and the other way round.
    private mutating func derive(_ state: ParameterState) throws {
        for (part, tensor) in state.parts where isLost(tensor) && made[ExactString(tensor.name)] == nil {
            guard !part.kind.isOptimizerState, let source = state.source(for: part, lost: lostNames, made: made) else { continue }
            let view = made[ExactString(source.name)] ?? ReaderView(base, source)
            let recorder = LossRecorder(ledger: ledger, tensor: tensor.name)
            made[ExactString(tensor.name)] =
                tensor.scalarType == source.scalarType ? view : CastView(view, to: tensor.scalarType, recorder: recorder)
            if state.isWeightInvented(lostNames) {
                approximate.append((tensor.name, source.name))
            } else {
                restored.append((tensor.name, source.name))
            }
        }
    }

    private mutating func takeOlder(_ part: StatePart, _ tensor: TensorDescription, _ older: any CheckpointReader) throws {
        guard let position = older.tensors.position(of: tensor.name) else {
            guard part.kind.isOptimizerState else {
                throw CairnError(
                    .incomplete, "the older checkpoint lacks a lost tensor", .init(file: older.source, tensor: tensor.name))
            }
            made[ExactString(tensor.name)] = ZeroView(tensor.scalarType, tensor.shape)
            reset.append(tensor.name)
            return
        }
        let found = older.tensors[position]
        try Self.requireAlike(found, tensor, in: older)
        made[ExactString(tensor.name)] = ReaderView(older, found)
        approximate.append((tensor.name, "\(tensor.name) of \(older.source)"))
    }

    /// Says what a weight is made of.
    private mutating func invent(_ part: StatePart, _ tensor: TensorDescription) throws {
        guard let layer = LayerName(part.parameter) ?? states.named(part)?.layer else { return }
        func neighbour(_ number: Int) throws(CairnError) -> TensorDescription { try like(tensor, part, in: number) }
        switch recovery {
        case .older: break
        case .copy(let number):
            try stacks.require(number, besides: layer)
            copy(try neighbour(number), to: tensor)
        case .initial:
            let around = try stacks.neighbours(of: layer)
            guard tensor.shape.dimensionCount > 1, tensor.scalarType.hasAverage, let nearest = around.nearest else {
                return copy(try neighbour(around.nearest ?? 0), to: tensor)
            }
            var deviations: [Double] = []
            for number in [around.before, around.after].compactMap(\.self) {
                deviations.append(try ElementSums(of: neighbour(number), in: base).standardDeviation)
            }
            let deviation = deviations.reduce(0, +) / Double(deviations.count)
            guard deviation.isFinite else {
                throw CairnError(
                    .unsupported,
                    "a neighbour of a lost tensor has elements that are not finite, so that its spread says nothing",
                    .init(file: base.source, tensor: try neighbour(nearest).name))
            }
            made[ExactString(tensor.name)] = DrawnView(tensor, deviation: deviation, seed: options.seed)
            approximate.append((tensor.name, "normal numbers of standard deviation \(deviation)"))
        case .neighbours(let kind):
            let around = try stacks.neighbours(of: layer)
            guard let before = around.before, let after = around.after else {
                return copy(try neighbour(around.nearest ?? 0), to: tensor)
            }
            let (first, second) = (try neighbour(before), try neighbour(after))
            let own = try weights.weights(of: around, kind)
            recipes.append(
                TensorRecipe(
                    name: tensor.name, operands: [.init(input: 0, name: first.name), .init(input: 0, name: second.name)],
                    method: .linear(weights: [own.before, own.after])))
            let sum = own.before + own.after
            approximate.append(
                (tensor.name, "\(own.before / sum) × \(first.name) + \(own.after / sum) × \(second.name)"))
        }
    }

    private mutating func copy(_ source: TensorDescription, to tensor: TensorDescription) {
        made[ExactString(tensor.name)] = ReaderView(base, source)
        approximate.append((tensor.name, source.name))
    }

    /// The counterpart of a lost tensor in another layer.
    private func like(
        _ tensor: TensorDescription, _ part: StatePart, in number: Int
    ) throws(CairnError) -> TensorDescription {
        let name = part.name(inLayer: number) ?? ""
        guard let position = base.tensors.position(of: name) else {
            throw CairnError(
                .mismatch, "the layer beside the lost one has no such tensor, so that they are not alike",
                .init(
                    file: base.source, tensor: tensor.name, expected: name,
                    advice: "copy a layer that is like the lost one (--from copy:LAYER), or take an older checkpoint"))
        }
        let found = base.tensors[position]
        try Self.requireAlike(found, tensor, in: base)
        return found
    }

    private static func requireAlike(
        _ found: TensorDescription, _ tensor: TensorDescription, in reader: any CheckpointReader
    ) throws(CairnError) {
        guard found.shape == tensor.shape, found.scalarType == tensor.scalarType else {
            throw CairnError(
                .mismatch, "what would take the place of a lost tensor has another type or shape",
                .init(
                    file: reader.source, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                    found: "\(found.scalarType)\(found.shape) of \(found.name)"))
        }
    }

    private mutating func addNotes(_ touched: [ParameterState]) {
        let zeroed = Set(reset.map { ExactString($0) })
        let restarted = touched.filter { state in state.parts.contains { zeroed.contains(ExactString($0.tensor.name)) } }
        var trainerStep: Value?
        if case .dictionary(let optimizer)? = base.values.first(where: { $0.name == OptimizerRestarts.value })?.value,
            optimizer["convention"] != nil
        {
            trainerStep = optimizer["step"]
        }
        steps = StepReset(states: restarted, trainerStep: trainerStep)
        let paths = base.values.flatMap { AdamConstants.leaves($0.value, at: $0.name) }.map(\.path)
        let counted = restarted.filter { state in
            !state.parts(.step).isEmpty
                || paths.contains { path in StatePart(path).map { $0.kind == .step && state.isNamed(by: $0) } ?? false }
        }
        if trainerStep == nil, counted.count < restarted.count {
            notes.append(
                "moments of \(restarted.count - counted.count) parameters start from zero, and the checkpoint "
                    + "counts steps for all parameters together: Adam will take the first steps of these for late ones, and they "
                    + "will be too large or too small; lower the learning rate for some steps, or start the whole optimizer anew")
        }
        if !states.unnamed.isEmpty, !restarted.isEmpty || !approximate.isEmpty {
            notes.append(
                "\(states.unnamed.count) tensors of the optimizer are numbered and not named after parameters: they stay "
                    + "as they are, those of the lost parameters too, so start the optimizer anew")
        }
        guard let count = base.identity?.rankCount else { return }
        let ranks = (0..<count).filter { rank in (try? base.rankValues(ofRank: rank)) == nil }
        if !ranks.isEmpty {
            notes.append(
                "what rank \(ranks.map(String.init).joined(separator: ", ")) alone had beside tensors, such as the state of its "
                    + "generator, is lost")
        }
    }

    /// What the lineage says beyond the parents.
    func details(patterns: [String], _ options: RecoveryOptions) -> [String: Value] {
        func table(_ list: [(name: String, origin: String)]) -> Value {
            .dictionary(Dictionary(list.map { ($0.name, .string($0.origin)) }, uniquingKeysWith: { first, _ in first }))
        }
        var details: [String: Value] = ["method": .string(recovery.name)]
        if !patterns.isEmpty { details["lost"] = .list(patterns.map { .string($0) }) }
        if !approximate.isEmpty { details["approximate"] = table(approximate) }
        if !restored.isEmpty { details["restored"] = table(restored) }
        if !reset.isEmpty { details["reset"] = .list(reset.map { .string($0) }) }
        switch recovery {
        case .neighbours(let weights):
            details["weights"] = .string(weights.rawValue)
            if !self.weights.norms.isEmpty { details["gradient_norms"] = self.weights.norms }
        case .initial: details["seed"] = .unsigned(options.seed)
        case .copy, .older: break
        }
        return details
    }
}

extension Value {
    fileprivate var isEmpty: Bool {
        if case .dictionary(let members) = self { members.isEmpty } else { false }
    }
}

extension ParameterState {
    /// Whether the weight is among lost tensors: the parameter, or its master copy where the state has no other.
    func isWeightLost(_ lost: Set<ExactString>) -> Bool {
        let own = parts(.parameter)
        return (own.isEmpty ? parts(.master) : own).contains { lost.contains(ExactString($0.tensor.name)) }
    }

    /// Whether nothing is left that the weight would follow from.
    func isWeightInvented(_ lost: Set<ExactString>) -> Bool {
        let exact = parts(.parameter) + parts(.master)
        return !exact.isEmpty && exact.allSatisfy { lost.contains(ExactString($0.tensor.name)) }
    }

    /// The part of the parameter that a lost one follows from: the exact weight if it is there, else the rounded one.
    func source(
        for part: StatePart, lost: Set<ExactString>, made: [ExactString: any TensorView]
    ) -> TensorDescription? {
        (parts(.master) + parts(.parameter)).first { other in
            let name = ExactString(other.tensor.name)
            return other.part != part && (!lost.contains(name) || made[name] != nil)
        }?.tensor
    }
}
