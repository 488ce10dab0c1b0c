import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout

/// A recovery of several ranks together: every rank tries the same candidates in the same order, and all agree on each outcome.
struct GroupRecovery {
    private let order: RecoveryOrder
    private let communicator: any Communicator
    /// Whether a storage that fails ends the recovery.
    private let isStrict: Bool

    /// What came of a recovery.
    struct Result {
        var part: Loaded<ShardedState>?
        var decisions: [RestartDecision]
        var failure: CairnError
    }

    init(_ order: RecoveryOrder, _ communicator: any Communicator, isStrict: Bool) {
        self.order = order
        self.communicator = communicator
        self.isStrict = isStrict
    }

    /// Tries one candidate after the other until all ranks have read their part of one.
    func recover(_ tensors: [PlacedTensor], _ options: ReadPlan.Options) throws -> Result {
        var log = RestartLog(order.observer)
        for candidate in try agreedCandidates() {
            let tier = order.tiers[candidate.tier]
            guard let step = candidate.step else {
                guard !isStrict, let error = candidate.error else { throw candidate.error ?? GroupNote.unreadable() }
                log.record(.init(tier: tier.name, step: nil, .unreachable, because: error))
                continue
            }
            for way in candidate.ways {
                let (part, decision) = try attempt(candidate, step, way, tensors, options)
                log.record(decision)
                if decision.outcome == .loaded { return Result(part: part, decisions: log.decisions, failure: log.failure) }
                guard decision.mayBeRepaired else { break }
            }
        }
        return Result(part: nil, decisions: log.decisions, failure: log.failure)
    }

    /// What there is, as rank 0 sees it.
    private func agreedCandidates() throws(CairnError) -> [GroupNote.Candidate] {
        var message: [UInt8]?
        if communicator.rank == 0 {
            let survey = order.survey()
            let lost = survey.lost.map { GroupNote.Candidate(tier: $0.tier, step: nil, error: $0.error) }
            message = GroupNote.candidates(
                lost
                    + survey.candidates.map { candidate in
                        let store = order.tiers[candidate.tier].store
                        return GroupNote.Candidate(
                            tier: candidate.tier, step: candidate.step, error: candidate.quarantine?.error(in: store),
                            isRepairable: candidate.isRepairable, isCommitted: candidate.isCommitted)
                    }
            ).encoded()
        }
        guard case .candidates(let candidates) = try GroupNote(parsing: communicator.broadcast(message: message, from: 0)),
            candidates.allSatisfy({ order.tiers.indices.contains($0.tier) })
        else { throw GroupNote.unreadable() }
        return candidates
    }

    /// All ranks try to read their parts in the same way, and agree how that went.
    private func attempt(
        _ found: GroupNote.Candidate, _ step: Int, _ way: RestartCandidate.Way, _ tensors: [PlacedTensor],
        _ options: ReadPlan.Options
    ) throws -> (Loaded<ShardedState>?, RestartDecision) {
        let tier = order.tiers[found.tier]
        var decision = RestartDecision(tier: tier.name, step: step, .skipped, because: found.error)
        if way == .stored, found.error != nil { return (nil, decision) }
        let start = ContinuousClock.now
        if way == .repaired { decision.repair = .init(method: tier.repair?.name ?? "") }
        let rebuilt = RebuiltFiles()
        let (part, note) = read(tier.store(way, rebuilt), step, tensors, options)
        let answers = try communicator.allGather(message: note.encoded())
            .map { bytes throws(CairnError) in try GroupNote(parsing: bytes) }
        let files = try communicator.allGather(message: GroupNote.files(rebuilt.all).encoded())
            .map { bytes throws(CairnError) in try GroupNote(parsing: bytes).rebuiltFiles() }
        decision.repair?.files = Set(files.joined()).sorted()
        let candidate = RestartCandidate(
            tier: found.tier, step: step, isRepairable: found.isRepairable, isCommitted: found.isCommitted)
        (decision.outcome, decision.saveID, decision.error) = try agree(answers, candidate, way, isMarked: found.error != nil)
        if decision.outcome == .loaded, let repair = decision.repair {
            if repair.files.isEmpty, let error = found.error {
                // Nothing was wrong with its files, so that is not why it is in quarantine.
                (decision.outcome, decision.error) = (.skipped, error)
            } else if !repair.files.isEmpty {
                try writeBack(&decision, candidate, tier)
            }
        }
        decision.seconds = start.secondsSince
        return (part, decision)
    }

    /// Rank 0 mends the store where that is wanted, and says how it went; the others wait.
    private func writeBack(
        _ decision: inout RestartDecision, _ candidate: RestartCandidate, _ tier: CheckpointTier
    ) throws(CairnError) {
        guard tier.repair?.writesBack == true else { return }
        var message: [UInt8]?
        if communicator.rank == 0 {
            decision.writeBack(candidate, of: tier)
            let note = decision.repair?.writeBackError.map { GroupNote.unreachable($0) } ?? .marked(true)
            message = note.encoded()
        }
        switch try GroupNote(parsing: communicator.broadcast(message: message, from: 0)) {
        case .marked(let isMended): decision.repair?.isWrittenBack = isMended
        case .unreachable(let error): decision.repair?.writeBackError = error
        default: throw GroupNote.unreadable()
        }
    }

    private func read(
        _ store: CheckpointStore, _ step: Int, _ tensors: [PlacedTensor], _ options: ReadPlan.Options
    ) -> (part: Loaded<ShardedState>?, note: GroupNote) {
        let reader: CairnReader
        let plan: ReadPlan
        do throws(CairnError) {
            reader = try store.open(step: step)
        } catch {
            return (nil, GroupNote(LoadErrorClassification(of: error, reading: nil), saveID: nil))
        }
        let saveID = reader.manifest.saveID
        do throws(CairnError) {
            plan = try ReadPlan(reading: reader, rank: communicator.rank, tensors: tensors)
        } catch {
            // The checkpoint is whole, but not of this state: an older one would not be either.
            return (nil, .refused(error))
        }
        do {
            let state = try plan.execute(reading: reader, options: options)
            return (Loaded(state: state, manifest: reader.manifest), .read(saveID))
        } catch let error as CairnError {
            return (nil, GroupNote(LoadErrorClassification(of: error, reading: reader), saveID: saveID))
        } catch {
            return (nil, .refused(CairnError(.inputOutput, "the part could not be read", cause: error)))
        }
    }

    /// One outcome from those of all ranks, the same on every rank.
    ///
    /// - Throws: What ends the recovery.
    private func agree(
        _ notes: [GroupNote], _ candidate: RestartCandidate, _ way: RestartCandidate.Way, isMarked: Bool
    ) throws(CairnError) -> (RestartDecision.Outcome, SaveID?, CairnError?) {
        var damage: (error: CairnError, saveID: SaveID?)?
        var flaw: CairnError?
        var trouble: CairnError?
        var saves: Set<SaveID> = []
        for (rank, note) in notes.enumerated() {
            switch note {
            case .read(let saveID): saves.insert(saveID)
            case .damaged(let error, let saveID): damage = damage ?? (error.adding(.init(rank: rank)), saveID)
            case .unusable(let error): flaw = flaw ?? error.adding(.init(rank: rank))
            case .unreachable(let error): trouble = trouble ?? error.adding(.init(rank: rank))
            case .refused(let error): throw error.adding(.init(rank: rank))
            case .candidates, .marked, .files: throw GroupNote.unreadable()
            }
        }
        if isStrict, let trouble { throw trouble }
        if let damage {
            if let saveID = damage.saveID { order.recordDamage(damage.error, of: saveID, candidate) }
            guard candidate.isLast(way), candidate.isCommitted, !isMarked else {
                return (.damaged, damage.saveID, damage.error)
            }
            return (try quarantine(candidate, damage.saveID, damage.error), damage.saveID, damage.error)
        }
        if let trouble { return (.unreachable, nil, trouble) }
        if let flaw { return (.unusable, nil, flaw) }
        if saves.count > 1 {
            return (.unusable, nil, CairnError(.mismatch, "the ranks have read different saves of one step"))
        }
        return (.loaded, saves.first, nil)
    }

    /// Rank 0 marks the checkpoint and says how that went.
    private func quarantine(
        _ candidate: RestartCandidate, _ saveID: SaveID?, _ error: CairnError
    ) throws(CairnError) -> RestartDecision.Outcome {
        guard order.isQuarantining else { return .damaged }
        var message: [UInt8]?
        if communicator.rank == 0 {
            let outcome = order.quarantine(candidate, saveID: saveID, because: error)
            message = GroupNote.marked(outcome == .quarantined).encoded()
        }
        guard case .marked(let isMarked) = try GroupNote(parsing: communicator.broadcast(message: message, from: 0)) else {
            throw GroupNote.unreadable()
        }
        return isMarked ? .quarantined : .damaged
    }
}
