package import CairnBase
import CairnTensor

/// One of the stores that checkpoints of a run go to and restarts look for them in: host memory, a local disk, a second
/// storage.
public struct CheckpointTier: Sendable {
    /// What to call it in reports.
    public var name: String
    /// Its checkpoints.
    public var store: CheckpointStore
    /// It gets the checkpoint of every step that is a multiple of this.
    public var interval: Int
    /// What it keeps after each new checkpoint; `nil` keeps everything.
    public var retention: RetentionPolicy?
    /// How its damaged checkpoints come back, if they do.
    package var repair: (any CheckpointRepair)?

    /// - Parameters:
    ///   - name: What to call it in reports.
    ///   - store: Its checkpoints.
    ///   - interval: It gets the checkpoint of every step that is a multiple of this.
    ///   - retention: What it keeps after each new checkpoint; `nil` keeps everything.
    public init(
        _ name: String, store: CheckpointStore, every interval: Int = 1, retention: RetentionPolicy? = nil
    ) {
        self.name = name
        self.store = store
        self.interval = interval
        self.retention = retention
    }

    /// Whether it gets the checkpoint of `step`.
    public func isDue(_ step: Int) -> Bool { interval > 0 && step % interval == 0 }
}

/// What a restart continues from: a ``TrainingState``, or a ``ShardedState``, which is one rank's part.
public struct Restart<State: Sendable>: Sendable {
    /// The state, every byte verified.
    public var state: State
    /// The checkpoint that it is from.
    public var manifest: Manifest
    /// The name of the tier that it is from.
    public var tier: String
    /// What was tried, in order; the last is what was loaded.
    public var decisions: [RestartDecision]

    package init(state: State, manifest: Manifest, tier: String, decisions: [RestartDecision]) {
        self.state = state
        self.manifest = manifest
        self.tier = tier
        self.decisions = decisions
    }

    /// The step to continue from.
    public var step: Int { manifest.step }
}

/// Loads the newest state that is whole, from the nearest of several stores.
///
/// The candidates are all checkpoints of all tiers, the newest first and of one step the nearest first. Each is tried by
/// loading it, which verifies every byte. One that is damaged or incomplete is tried again as parity beside it gives it, where
/// its tier says so (`repairedByParity()` of `CairnProtect`). If that does not help either it is put in ``Quarantine`` and the
/// next is tried; a tier that cannot be reached is skipped, and its checkpoints are not marked damaged. Every decision is
/// recorded.
///
/// ```swift
/// let recovery = RecoveryOrder([CheckpointTier("memory", store: memory), CheckpointTier("disk", store: disk)])
/// if let restart = try recovery.load() {
///     print("resumed from step \(restart.step) of \(restart.tier)")
/// }
/// ```
public struct RecoveryOrder: Sendable {
    /// The tiers, the nearest first.
    public let tiers: [CheckpointTier]
    /// Whether damaged checkpoints are put in quarantine; otherwise they are only skipped.
    public var isQuarantining = true
    /// Told of each decision as it is taken.
    public var observer: @Sendable (RestartDecision) -> Void = { _ in }

    /// - Parameter tiers: The tiers, the nearest first.
    public init(_ tiers: [CheckpointTier]) { self.tiers = tiers }

    /// Loads the newest state that is whole, from the nearest tier that has it.
    ///
    /// - Parameter options: With ``LoadOptions/mapped`` the checkpoint is verified before it is mapped.
    /// - Returns: `nil` when every tier could be looked at and none has a checkpoint: a run that starts from nothing.
    /// - Throws: ``CairnError/Code/nothingUsable``, with a ``RestartFailure`` as its cause, when there are checkpoints and none
    ///   can be used; when nothing is known but that tiers or checkpoints cannot be reached, the first of those errors;
    ///   ``CairnError/Code/cancelled`` and ``CairnError/Code/invalidArgument`` at once; what ``LoadOptions/progress`` throws.
    public func load(options: LoadOptions = LoadOptions()) throws -> Restart<TrainingState>? {
        var log = RestartLog(observer)
        let survey = survey()
        for lost in survey.lost {
            log.record(
                .init(
                    tier: tiers[lost.tier].name, step: nil, .unreachable, because: lost.error, seconds: lost.seconds))
        }
        for candidate in survey.candidates {
            for way in candidate.ways {
                let (restart, decision) = try attempt(candidate, way, options)
                log.record(decision)
                if var restart {
                    restart.decisions = log.decisions
                    return restart
                }
                guard decision.mayBeRepaired else { break }
            }
        }
        try log.requireNone()
        return nil
    }

    /// Loads the newest state that is whole without blocking the calling task's thread.
    public func load(options: LoadOptions = LoadOptions()) async throws -> Restart<TrainingState>? {
        try await ThreadPool.shared.run { try self.load(options: options) }
    }

    /// Tries to load a checkpoint in one of the ways that there are.
    ///
    /// - Throws: What ends the recovery.
    private func attempt(
        _ candidate: RestartCandidate, _ way: RestartCandidate.Way, _ options: LoadOptions
    ) throws -> (Restart<TrainingState>?, RestartDecision) {
        let tier = tiers[candidate.tier]
        let rebuilt = RebuiltFiles()
        var decision = RestartDecision(tier: tier.name, step: candidate.step, .loaded)
        let start = ContinuousClock.now
        func ending(
            _ outcome: RestartDecision.Outcome, because error: CairnError?
        ) -> (Restart<TrainingState>?, RestartDecision) {
            decision.outcome = outcome
            decision.error = error
            decision.seconds = start.secondsSince
            return (nil, decision)
        }
        if way == .stored, let quarantine = candidate.quarantine {
            decision.saveID = quarantine.saveID
            return ending(.skipped, because: quarantine.error(in: tier.store))
        }
        if way == .repaired { decision.repair = tier.repair.map { .init(method: $0.name) } }
        var reader: CairnReader?
        do {
            let opened = try tier.store(way, rebuilt).open(step: candidate.step)
            reader = opened
            decision.saveID = opened.manifest.saveID
            let state = try Self.read(opened, options)
            decision.repair?.files = rebuilt.all
            // Nothing was wrong with its files, so that is not why it is in quarantine.
            if let quarantine = candidate.quarantine, rebuilt.all.isEmpty {
                return ending(.skipped, because: quarantine.error(in: tier.store))
            }
            if way == .stored || rebuilt.all.isEmpty {
                KnownDamage.shared.forget(opened.manifest.saveID, step: candidate.step, in: tier.store.storage)
            } else {
                decision.writeBack(candidate, of: tier)
            }
            decision.seconds = start.secondsSince
            return (Restart(state: state, manifest: opened.manifest, tier: tier.name, decisions: []), decision)
        } catch let error as CairnError {
            decision.repair?.files = rebuilt.all
            let (outcome, reason) = try classify(error, reader, candidate, way)
            return ending(outcome, because: reason)
        }
    }

    private static func read(_ reader: CairnReader, _ options: LoadOptions) throws -> TrainingState {
        if options.mapped, let damage = try reader.verify(concurrency: options.concurrency).damages.first {
            throw damage.error
        }
        return try TrainingState(reading: reader, options: options)
    }

    private func classify(
        _ error: CairnError, _ reader: CairnReader?, _ candidate: RestartCandidate, _ way: RestartCandidate.Way
    ) throws(CairnError) -> (RestartDecision.Outcome, CairnError) {
        switch LoadErrorClassification(of: error, reading: reader) {
        case .refused(let error): throw error
        case .unusable(let error): return (.unusable, error)
        case .unreachable(let error): return (.unreachable, error)
        case .damaged(let error):
            let saveID = reader?.manifest.saveID
            if let saveID { recordDamage(error, of: saveID, candidate) }
            guard candidate.isLast(way), candidate.isCommitted else { return (.damaged, error) }
            return (quarantine(candidate, saveID: saveID, because: error), error)
        }
    }
}

extension RecoveryOrder {
    /// Looks at all tiers.
    package func survey() -> RestartSurvey {
        var survey = RestartSurvey()
        for (index, tier) in tiers.enumerated() {
            let start = ContinuousClock.now
            do throws(CairnError) {
                let repairable = Set(try tier.repair?.steps(in: tier.store) ?? [])
                var found = try tier.store.candidates().map {
                    RestartCandidate(
                        tier: index, step: $0.step, quarantine: $0.quarantine, isRepairable: repairable.contains($0.step))
                }
                for step in repairable.subtracting(found.map(\.step)) {
                    found.append(RestartCandidate(tier: index, step: step, isRepairable: true, isCommitted: false))
                }
                survey.candidates += found
            } catch {
                survey.lost.append((index, error, start.secondsSince))
            }
        }
        survey.candidates.sort { ($1.step, $0.tier) < ($0.step, $1.tier) }
        return survey
    }

    /// Remembers that a checkpoint is damaged, whether or not it can be put in quarantine.
    package func recordDamage(_ error: CairnError, of saveID: SaveID, _ candidate: RestartCandidate) {
        KnownDamage.shared.record(error, of: saveID, step: candidate.step, in: tiers[candidate.tier].store.storage)
    }

    /// Puts a damaged checkpoint in quarantine, unless that is not wanted or does not work: a storage that cannot be written
    /// can still be read.
    package func quarantine(
        _ candidate: RestartCandidate, saveID: SaveID?, because error: CairnError
    ) -> RestartDecision.Outcome {
        // One that is in quarantine already remains there for its first reason.
        guard isQuarantining, candidate.quarantine == nil else { return .damaged }
        do throws(CairnError) {
            try tiers[candidate.tier].store.quarantine(step: candidate.step, saveID: saveID, because: error)
            return .quarantined
        } catch {
            return .damaged
        }
    }
}
