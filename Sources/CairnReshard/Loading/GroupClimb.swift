import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout

/// Ranks that climb a restart ladder together: the same candidates in the same order on each, and one verdict on each.
struct GroupClimb {
    private let ladder: RestartLadder
    private let communicator: any Communicator
    /// Whether a storage that fails ends the climb.
    private let isStrict: Bool

    /// What came of a climb.
    struct Result {
        var part: LoadedPart?
        var decisions: [RestartDecision]
        var failure: CairnError
    }

    init(_ ladder: RestartLadder, _ communicator: any Communicator, isStrict: Bool) {
        self.ladder = ladder
        self.communicator = communicator
        self.isStrict = isStrict
    }

    /// Tries one candidate after the other until all ranks have read their part of one.
    func climb(_ tensors: [PlacedTensor], _ options: ReadPlan.Options) throws -> Result {
        var log = RestartLog(ladder.observer)
        for rung in try agreedRungs() {
            let tier = ladder.tiers[rung.tier]
            guard let step = rung.step else {
                guard !isStrict, let error = rung.error else { throw rung.error ?? GroupNote.unreadable() }
                log.note(.init(tier: tier.name, step: nil, .unreachable, because: error))
                continue
            }
            if let error = rung.error {
                log.note(.init(tier: tier.name, step: step, .passedOver, because: error))
                continue
            }
            let start = ContinuousClock.now
            let (part, note) = attempt(tier.store, step, tensors, options)
            let notes = try communicator.allGather(message: note.encoded())
                .map { bytes throws(CairnError) in try GroupNote(parsing: bytes) }
            let (verdict, saveID, error) = try agree(notes, rung.tier, step)
            log.note(.init(
                tier: tier.name, step: step, saveID: saveID, verdict, because: error, seconds: start.secondsSince))
            if verdict == .loaded { return Result(part: part, decisions: log.decisions, failure: log.failure) }
        }
        return Result(part: nil, decisions: log.decisions, failure: log.failure)
    }

    /// What there is, as rank 0 sees it.
    private func agreedRungs() throws(CairnError) -> [GroupNote.Rung] {
        var message: [UInt8]?
        if communicator.rank == 0 {
            let survey = ladder.survey()
            let lost = survey.lost.map { GroupNote.Rung(tier: $0.tier, step: nil, error: $0.error) }
            message = GroupNote.rungs(lost + survey.candidates.map { candidate in
                let store = ladder.tiers[candidate.tier].store
                return GroupNote.Rung(
                    tier: candidate.tier, step: candidate.step, error: candidate.quarantine?.error(in: store))
            }).encoded()
        }
        guard case .rungs(let rungs) = try GroupNote(parsing: communicator.broadcast(message: message, from: 0)),
            rungs.allSatisfy({ ladder.tiers.indices.contains($0.tier) })
        else { throw GroupNote.unreadable() }
        return rungs
    }

    private func attempt(
        _ store: CheckpointStore, _ step: Int, _ tensors: [PlacedTensor], _ options: ReadPlan.Options
    ) -> (part: LoadedPart?, note: GroupNote) {
        let reader: CairnReader
        let plan: ReadPlan
        do throws(CairnError) {
            reader = try store.open(step: step)
        } catch {
            return (nil, GroupNote(RestartJudgement(of: error, reading: nil), saveID: nil))
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
            return (LoadedPart(state: state, manifest: reader.manifest, skipped: []), .read(saveID))
        } catch let error as CairnError {
            return (nil, GroupNote(RestartJudgement(of: error, reading: reader), saveID: saveID))
        } catch {
            return (nil, .refused(CairnError(.inputOutput, "the part could not be read", cause: error)))
        }
    }

    /// One verdict from those of all ranks, the same on every rank.
    ///
    /// - Throws: What ends the climb.
    private func agree(
        _ notes: [GroupNote], _ tier: Int, _ step: Int
    ) throws(CairnError) -> (RestartDecision.Verdict, SaveID?, CairnError?) {
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
            case .rungs, .marked: throw GroupNote.unreadable()
            }
        }
        if isStrict, let trouble { throw trouble }
        if let damage {
            let candidate = RestartCandidate(tier: tier, step: step)
            if let saveID = damage.saveID { ladder.noteDamage(damage.error, of: saveID, candidate) }
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
    ) throws(CairnError) -> RestartDecision.Verdict {
        guard ladder.isQuarantining else { return .damaged }
        var message: [UInt8]?
        if communicator.rank == 0 {
            let verdict = ladder.quarantine(candidate, saveID: saveID, because: error)
            message = GroupNote.marked(verdict == .quarantined).encoded()
        }
        guard case .marked(let isMarked) = try GroupNote(parsing: communicator.broadcast(message: message, from: 0)) else {
            throw GroupNote.unreadable()
        }
        return isMarked ? .quarantined : .damaged
    }
}

extension GroupNote {
    fileprivate init(_ judgement: RestartJudgement, saveID: SaveID?) {
        switch judgement {
        case .damaged(let error): self = .damaged(error, saveID)
        case .unusable(let error): self = .unusable(error)
        case .unreachable(let error): self = .unreachable(error)
        case .refused(let error): self = .refused(error)
        }
    }
}
