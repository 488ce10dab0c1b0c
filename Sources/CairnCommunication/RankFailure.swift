public import CairnBase

/// Why a group of ranks ended: the cause of the errors that a failed ``Communicator`` throws.
public struct RankFailure: Error, Sendable, CustomStringConvertible {
    /// The rank that failed, as the whole job counts it.
    public let rank: Int
    /// What happened there.
    public let reason: CairnError

    package init(rank: Int, reason: CairnError) {
        self.rank = rank
        self.reason = reason
    }

    /// The error that every rank throws. One that reports the failure of another rank is passed on as it is.
    package var error: CairnError {
        if reason.cause is RankFailure { return reason }
        return CairnError(reason.code, "failed, and the group with it", CairnError.Context(rank: rank), cause: self)
    }

    public var description: String { reason.description }
}
