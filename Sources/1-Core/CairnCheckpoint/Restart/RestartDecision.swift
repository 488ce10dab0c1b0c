public import CairnBase

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
    /// What was rebuilt, where it was read as parity gives it; `nil` where it was read as it is.
    public var repair: Repair?

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

extension RestartDecision {
    /// What of a checkpoint was rebuilt while it was read.
    public struct Repair: Sendable {
        /// By what: `parity`.
        public var method: String
        /// The files that are lost or damaged and of which something was rebuilt, or was to be.
        public var files: [String] = []
        /// Whether the store was mended by it too; else the files are as they were.
        public var isWrittenBack = false
        /// Why the store could not be mended, where it was to be. The state that was loaded is right all the same.
        public var writeBackError: CairnError?

        package init(method: String) { self.method = method }
    }

    /// Whether the same checkpoint may be readable as a repair gives it.
    package var mayBeRepaired: Bool {
        switch outcome {
        case .damaged, .quarantined, .skipped: true
        // A device that cannot read some bytes of it.
        case .unreachable: error?.code == .inputOutput
        case .loaded, .unusable: false
        }
    }

    /// Mends the store where that is wanted. The state has been loaded, whatever comes of it.
    package mutating func writeBack(_ candidate: RestartCandidate, of tier: CheckpointTier) {
        guard let mending = tier.repair, mending.writesBack else { return }
        do {
            try mending.mend(tier.store, step: candidate.step)
            repair?.isWrittenBack = true
        } catch {
            repair?.writeBackError = CairnError(wrapping: error, "the store could not be mended")
        }
    }
}

extension RestartDecision: CustomStringConvertible {
    /// One line: tier and step, outcome, reason.
    public var description: String {
        let location = (step.map { "\(tier)@\($0)" } ?? tier) + (repair.map { ", by \($0.method)" } ?? "")
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
