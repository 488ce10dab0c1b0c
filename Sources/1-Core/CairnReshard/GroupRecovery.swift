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
            if let error = candidate.error {
                log.record(.init(tier: tier.name, step: step, .skipped, because: error))
                continue
            }
            let start = ContinuousClock.now
            let (part, note) = attempt(tier.store, step, tensors, options)
            let notes = try communicator.allGather(message: note.encoded())
                .map { bytes throws(CairnError) in try GroupNote(parsing: bytes) }
            let (outcome, saveID, error) = try agree(notes, candidate.tier, step)
            log.record(
                .init(
                    tier: tier.name, step: step, saveID: saveID, outcome, because: error, seconds: start.secondsSince))
            if outcome == .loaded { return Result(part: part, decisions: log.decisions, failure: log.failure) }
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
                            tier: candidate.tier, step: candidate.step, error: candidate.quarantine?.error(in: store))
                    }
            ).encoded()
        }
        guard case .candidates(let candidates) = try GroupNote(parsing: communicator.broadcast(message: message, from: 0)),
            candidates.allSatisfy({ order.tiers.indices.contains($0.tier) })
        else { throw GroupNote.unreadable() }
        return candidates
    }

    private func attempt(
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
        _ notes: [GroupNote], _ tier: Int, _ step: Int
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
            case .candidates, .marked: throw GroupNote.unreadable()
            }
        }
        if isStrict, let trouble { throw trouble }
        if let damage {
            let candidate = RestartCandidate(tier: tier, step: step)
            if let saveID = damage.saveID { order.recordDamage(damage.error, of: saveID, candidate) }
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

extension GroupNote {
    fileprivate init(_ classification: LoadErrorClassification, saveID: SaveID?) {
        switch classification {
        case .damaged(let error): self = .damaged(error, saveID)
        case .unusable(let error): self = .unusable(error)
        case .unreachable(let error): self = .unreachable(error)
        case .refused(let error): self = .refused(error)
        }
    }
}

/// What ranks that load together tell each other.
enum GroupNote {
    /// A checkpoint of a tier, or a tier that could not be looked at.
    struct Candidate {
        var tier: Int
        /// `nil` for a tier that could not be looked at.
        var step: Int?
        /// Why it is not tried.
        var error: CairnError?
    }

    /// What there is, the best first.
    case candidates([Candidate])
    case read(SaveID)
    /// The save is known where its manifest could be read.
    case damaged(CairnError, SaveID?)
    case unusable(CairnError)
    case unreachable(CairnError)
    /// An error that no other checkpoint would mend.
    case refused(CairnError)
    /// Whether a checkpoint was put in quarantine.
    case marked(Bool)

    /// A letter, and what belongs to it.
    func encoded() -> [UInt8] {
        switch self {
        case .candidates(let candidates): Self.bytes("l", candidates.map(Self.line).joined(separator: "\n"))
        case .read(let saveID): Self.bytes("r", "\(saveID)")
        case .damaged(let error, let saveID): Self.bytes("d", (saveID.map { "\($0)" } ?? "") + " " + Self.text(error))
        case .unusable(let error): Self.bytes("u", Self.text(error))
        case .unreachable(let error): Self.bytes("i", Self.text(error))
        case .refused(let error): Self.bytes("f", Self.text(error))
        case .marked(let isMarked): Self.bytes("m", isMarked ? "1" : "0")
        }
    }

    /// - Throws: ``CairnError/Code/malformed`` for bytes that no rank of this version sends.
    init(parsing bytes: [UInt8]) throws(CairnError) {
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        switch bytes.first {
        case UInt8(ascii: "l"):
            var candidates: [Candidate] = []
            for line in text.split(separator: "\n") { candidates.append(try Self.candidate(line)) }
            self = .candidates(candidates)
        case UInt8(ascii: "r"):
            guard let saveID = SaveID(text) else { throw Self.unreadable() }
            self = .read(saveID)
        case UInt8(ascii: "d"):
            guard let space = text.firstIndex(of: " ") else { throw Self.unreadable() }
            self = .damaged(try Self.error(text[text.index(after: space)...]), SaveID(String(text[..<space])))
        case UInt8(ascii: "u"): self = .unusable(try Self.error(text[...]))
        case UInt8(ascii: "i"): self = .unreachable(try Self.error(text[...]))
        case UInt8(ascii: "f"): self = .refused(try Self.error(text[...]))
        case UInt8(ascii: "m"): self = .marked(text == "1")
        default: throw Self.unreadable()
        }
    }

    private static func bytes(_ letter: String, _ text: String) -> [UInt8] { Array((letter + text).utf8) }

    /// Tier, step and error, separated by spaces.
    private static func line(_ candidate: Candidate) -> String {
        "\(candidate.tier) \(candidate.step.map(String.init) ?? "-") " + (candidate.error.map(text) ?? "")
    }

    private static func candidate(_ line: Substring) throws(CairnError) -> Candidate {
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let tier = Int(parts[0]), parts[1] == "-" || Int(parts[1]) != nil else {
            throw unreadable()
        }
        return Candidate(tier: tier, step: Int(parts[1]), error: parts[2].isEmpty ? nil : try error(parts[2]))
    }

    /// An error as JSON, which has no line feeds.
    private static func text(_ error: CairnError) -> String {
        String(decoding: RankNote.failed(error).encoded(), as: UTF8.self)
    }

    private static func error(_ text: Substring) throws(CairnError) -> CairnError {
        guard case .failed(let error) = try RankNote(parsing: Array(text.utf8)) else { throw unreadable() }
        return error
    }

    static func unreadable() -> CairnError {
        CairnError(.malformed, "a rank's report of its load cannot be read")
    }
}
