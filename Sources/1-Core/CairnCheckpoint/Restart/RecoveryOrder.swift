public import CairnBase
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
/// loading it, which verifies every byte. One that is damaged or incomplete is put in ``Quarantine`` and the next is tried; a
/// tier that cannot be reached is skipped, and its checkpoints are not marked damaged. Every decision is recorded.
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
            let tier = tiers[candidate.tier]
            let start = ContinuousClock.now
            if let quarantine = candidate.quarantine {
                log.record(
                    .init(
                        tier: tier.name, step: candidate.step, saveID: quarantine.saveID, .skipped,
                        because: quarantine.error(in: tier.store)))
                continue
            }
            var reader: CairnReader?
            do {
                let opened = try tier.store.open(step: candidate.step)
                reader = opened
                let state = try Self.read(opened, options)
                KnownDamage.shared.forget(opened.manifest.saveID, step: candidate.step, in: tier.store.storage)
                log.record(
                    .init(
                        tier: tier.name, step: candidate.step, saveID: opened.manifest.saveID, .loaded,
                        seconds: start.secondsSince))
                return Restart(state: state, manifest: opened.manifest, tier: tier.name, decisions: log.decisions)
            } catch let error as CairnError {
                let (outcome, reason) = try classify(error, reader, candidate)
                log.record(
                    .init(
                        tier: tier.name, step: candidate.step, saveID: reader?.manifest.saveID, outcome, because: reason,
                        seconds: start.secondsSince))
            }
        }
        try log.requireNone()
        return nil
    }

    /// Loads the newest state that is whole without blocking the calling task's thread.
    public func load(options: LoadOptions = LoadOptions()) async throws -> Restart<TrainingState>? {
        try await ThreadPool.shared.run { try self.load(options: options) }
    }

    private static func read(_ reader: CairnReader, _ options: LoadOptions) throws -> TrainingState {
        if options.mapped, let damage = try reader.verify(concurrency: options.concurrency).damages.first {
            throw damage.error
        }
        return try TrainingState(reading: reader, options: options)
    }

    private func classify(
        _ error: CairnError, _ reader: CairnReader?, _ candidate: RestartCandidate
    ) throws(CairnError) -> (RestartDecision.Outcome, CairnError) {
        switch LoadErrorClassification(of: error, reading: reader) {
        case .refused(let error): throw error
        case .unusable(let error): return (.unusable, error)
        case .unreachable(let error): return (.unreachable, error)
        case .damaged(let error):
            let saveID = reader?.manifest.saveID
            if let saveID { recordDamage(error, of: saveID, candidate) }
            return (quarantine(candidate, saveID: saveID, because: error), error)
        }
    }
}

/// A checkpoint that a restart may continue from.
package struct RestartCandidate: Sendable {
    /// Which of the tiers has it.
    package var tier: Int
    package var step: Int
    package var quarantine: Quarantine?

    package init(tier: Int, step: Int, quarantine: Quarantine? = nil) {
        self.tier = tier
        self.step = step
        self.quarantine = quarantine
    }
}

/// What there is on the tiers of a recovery order.
package struct RestartSurvey: Sendable {
    /// All checkpoints, the best first.
    package var candidates: [RestartCandidate] = []
    /// The tiers that could not be looked at.
    package var lost: [(tier: Int, error: CairnError, seconds: Double)] = []
}

extension RecoveryOrder {
    /// Looks at all tiers.
    package func survey() -> RestartSurvey {
        var survey = RestartSurvey()
        for (index, tier) in tiers.enumerated() {
            let start = ContinuousClock.now
            do throws(CairnError) {
                survey.candidates += try tier.store.candidates().map {
                    RestartCandidate(tier: index, step: $0.step, quarantine: $0.quarantine)
                }
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
        guard isQuarantining else { return .damaged }
        do throws(CairnError) {
            try tiers[candidate.tier].store.quarantine(step: candidate.step, saveID: saveID, because: error)
            return .quarantined
        } catch {
            return .damaged
        }
    }
}

/// The decisions of one restart.
package struct RestartLog {
    package private(set) var decisions: [RestartDecision] = []
    private let observer: @Sendable (RestartDecision) -> Void

    package init(_ observer: @escaping @Sendable (RestartDecision) -> Void) { self.observer = observer }

    package mutating func record(_ decision: RestartDecision) {
        decisions.append(decision)
        observer(decision)
    }

    /// What a restart checks that found nothing to load.
    ///
    /// - Throws: ``failure``, unless there was nothing.
    package func requireNone() throws(CairnError) {
        guard decisions.isEmpty else { throw failure }
    }

    package var failure: CairnError {
        let cause = RestartFailure(decisions)
        // What could not be reached may hold anything: its own error says best what to do.
        if var trouble = decisions.first?.error, decisions.allSatisfy({ $0.outcome == .unreachable }) {
            trouble.cause = cause
            return trouble
        }
        return CairnError(
            .nothingUsable, "there are checkpoints, and none of any tier can be used",
            .init(advice: "look at what was tried before starting from nothing"), cause: cause)
    }
}

extension ContinuousClock.Instant {
    /// The seconds since then.
    package var secondsSince: Double { (.now - self) / .seconds(1) }
}

/// What a restart did with one checkpoint of one tier, and why.
public struct RestartDecision: Sendable {
    /// What became of a candidate.
    public enum Outcome: String, Sendable, Hashable {
        /// It was loaded, every byte verified.
        case loaded
        /// It is damaged and was put in quarantine.
        case quarantined
        /// It is damaged, and could not be put in quarantine, or was not to be.
        case damaged
        /// It was in quarantine already and was not tried.
        case skipped
        /// It may be whole but cannot be used here: a newer version wrote it, or it was deleted meanwhile.
        case unusable
        /// The storage failed: that says nothing about the checkpoint.
        case unreachable
    }

    /// The tier's name.
    public var tier: String
    /// The checkpoint's step; `nil` when the tier could not even be listed.
    public var step: Int?
    /// The save, where its manifest could be read.
    public var saveID: SaveID?
    /// What became of it.
    public var outcome: Outcome
    /// Why, unless it was loaded.
    public var error: CairnError?
    /// How long that took.
    public var seconds: Double

    package init(
        tier: String, step: Int?, saveID: SaveID? = nil, _ outcome: Outcome, because error: CairnError? = nil,
        seconds: Double = 0
    ) {
        self.tier = tier
        self.step = step
        self.saveID = saveID
        self.outcome = outcome
        self.error = error
        self.seconds = seconds
    }
}

extension RestartDecision: CustomStringConvertible {
    /// One line: tier and step, outcome, reason.
    public var description: String {
        let location = step.map { "\(tier)@\($0)" } ?? tier
        return "\(location): \(outcome.rawValue)" + (error.map { ": \($0)" } ?? "")
    }
}

/// Why a restart found nothing to continue from although there is, or may be, something: the cause of the error it throws.
public struct RestartFailure: Error, CustomStringConvertible {
    /// What was tried, in order.
    public let decisions: [RestartDecision]

    package init(_ decisions: [RestartDecision]) { self.decisions = decisions }

    public var description: String { decisions.map(\.description).joined(separator: "; ") }
}
