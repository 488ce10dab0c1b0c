public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// A checkpoint of which something was lost, with something else in its place: made of the layers beside the lost ones, taken
/// from an older checkpoint, copied, or drawn at random.
///
/// What was not lost is what it was, byte for byte. What is made up is computed as it is read. Moments and step counts of
/// parameters that are made up start from zero. ``lineage`` says of every tensor what it was made of.
///
/// ```swift
/// let lost = try LostTensors(["model.layers.{8..11}.*"], of: reader)
/// let recovered = try RecoveredCheckpoint(reader, lost: lost, from: .neighbours())
/// ```
public struct RecoveredCheckpoint: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    /// What the result was made from, and how: `approximate` of the details has every tensor that is made up, `reset` those
    /// that start from zero, `restored` those that follow from what is left.
    public let lineage: Lineage
    /// What did not go without saying, a sentence each.
    public let notes: [String]
    /// The names of the tensors that are made up: weights that differ from what was lost.
    public let approximate: [String]

    private let made: [ExactString: any TensorView]
    private let steps: StepReset
    private let isComplete: Bool
    private let ledger: LossLedger

    /// Reads second moments or weights of the neighbours where the recovery needs them, and nothing else.
    ///
    /// - Parameters:
    ///   - lost: What is lost of it.
    ///   - recovery: What takes its place.
    ///   - parent: What the lineage says of the checkpoint.
    ///   - older: What it says of an older one.
    /// - Throws: ``CairnError/Code/notFound`` when nothing is lost, ``CairnError/Code/unsupported`` for lost tensors outside of
    ///   layers that only an older checkpoint can replace, ``CairnError/Code/incomplete`` where nothing is left to make them of
    ///   or there are no second moments to weigh by, ``CairnError/Code/mismatch`` for layers that are not alike.
    public init(
        _ base: any CheckpointReader, lost: LostTensors, from recovery: LossRecovery,
        options: RecoveryOptions = RecoveryOptions(),
        parent: Lineage.Parent? = nil, older: Lineage.Parent? = nil
    ) throws {
        let plan = try RecoveryPlan(base, lost: lost, recovery, options)
        self.base = base
        tensors = plan.tensors
        made = plan.made
        steps = plan.steps
        isComplete = plan.absentCount == 0
        ledger = plan.ledger
        values = base.values.map { NamedValue(name: $0.name, value: plan.steps.applied(to: $0.value, at: $0.name)) }
        approximate = plan.approximate.map(\.name)
        notes = plan.notes
        var parents = [MergeInput(base, parent: parent).parent]
        if case .older(let reader) = recovery { parents.append(MergeInput(reader, parent: older).parent) }
        lineage = Lineage(operation: Self.operation, parents: parents, details: plan.details(patterns: lost.patterns, options))
    }

    /// What lineages call it.
    package static let operation = "recovery"

    public var structure: StateNode? {
        guard isComplete else { return nil }
        return base.structure.map { steps.applied(to: $0, at: "") }
    }

    public var losses: [LossNote]? { (base.losses ?? []) + ledger.notes }

    /// The values of single ranks whose files are still there.
    public func rankValues() throws(CairnError) -> [RankValues] {
        guard let count = base.identity?.rankCount else { return try base.rankValues() }
        return (0..<count).compactMap { rank in
            // The plan's notes say which are lost.
            guard let own = try? base.rankValues(ofRank: rank), !own.values.isEmpty else { return nil }
            return own
        }
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        let description = try description(of: name)
        return made[ExactString(description.tiedTo ?? name)] == nil ? name : nil
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let description = try description(of: name)
        guard let view = made[ExactString(description.tiedTo ?? name)] else {
            return try base.read(name, region: region, into: &destination)
        }
        do throws(CairnError) {
            try region.check(inside: description.shape, of: description.scalarType, filling: destination.byteCount)
            guard region.elementCount > 0 else { return }
            try view.read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }

    /// Verifies what is left of the base.
    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = try base.verify(deep: deep, progress: progress)
        report.damages.removeAll { damage in damage.error.context.tensor.map { made[ExactString($0)] != nil } ?? false }
        return report
    }
}

/// The step counts that start from zero with the moments beside them.
struct StepReset {
    /// The parameters.
    let states: [ParameterState]
    /// The step at which the example trainer's optimizer is, which keeps one count for all and notes who started later.
    let trainerStep: Value?

    /// A value with the counts in it set to zero.
    func applied(to value: Value, at path: String) -> Value {
        switch value {
        case .dictionary(var members):
            for (key, member) in members { members[key] = applied(to: member, at: path.isEmpty ? key : "\(path).\(key)") }
            if path == OptimizerRestarts.value, let trainerStep, !states.isEmpty {
                var restarts: [String: Value] = [:]
                if case .dictionary(let old)? = members[OptimizerRestarts.key] { restarts = old }
                for state in states {
                    restarts[state.name] = .dictionary(["step": trainerStep, "rate_factor": .double(1)])
                }
                members[OptimizerRestarts.key] = .dictionary(restarts)
            }
            return .dictionary(members)
        case .list(let elements):
            return .list(elements.enumerated().map { applied(to: $0.element, at: "\(path).\($0.offset)") })
        case .integer where isReset(path): return .integer(0)
        case .unsigned where isReset(path): return .unsigned(0)
        case .double where isReset(path): return .double(0)
        default: return value
        }
    }

    /// The same of the values in a nested state.
    func applied(to node: StateNode, at path: String) -> StateNode {
        func below(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
        switch node {
        case .tensor: return node
        case .value(let value): return .value(applied(to: value, at: path))
        case .list(let nodes): return .list(nodes.enumerated().map { applied(to: $0.element, at: below("\($0.offset)")) })
        case .tuple(let nodes): return .tuple(nodes.enumerated().map { applied(to: $0.element, at: below("\($0.offset)")) })
        case .dictionary(let members):
            return .dictionary(members.map { .init(key: $0.key, node: applied(to: $0.node, at: below($0.key.text))) })
        case .typed(let kind, let node): return .typed(kind, applied(to: node, at: path))
        }
    }

    /// Whether a path is that of the count of one of the parameters.
    func isReset(_ path: String) -> Bool {
        guard let part = StatePart(path), part.kind == .step else { return false }
        return states.contains { $0.isNamed(by: part) }
    }
}
