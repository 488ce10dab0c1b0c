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
