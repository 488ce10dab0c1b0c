package import CairnBase

/// What an error says about the checkpoint that was being loaded.
package enum LoadErrorClassification: Sendable {
    /// The checkpoint is damaged.
    case damaged(CairnError)
    /// The checkpoint may be whole but cannot be used.
    case unusable(CairnError)
    /// The storage failed.
    case unreachable(CairnError)
    /// No other checkpoint would help: the caller asked for something invalid, or stopped the load.
    case refused(CairnError)

    /// - Parameter reader: The checkpoint, if its manifest could be read.
    package init(of error: CairnError, reading reader: CairnReader?) {
        switch error.code {
        case .corrupted, .malformed, .incomplete: self = .damaged(error)
        case .unsupported: self = .unusable(error)
        case .mismatch, .notFound: self = Self.classify(error, reader)
        case .cancelled, .invalidArgument: self = .refused(error)
        default: self = .unreachable(error)
        }
    }

    /// A missing file, or one of another save, is damage; a name that the checkpoint never had, or a checkpoint that was
    /// deleted meanwhile, is not.
    private static func classify(_ error: CairnError, _ reader: CairnReader?) -> LoadErrorClassification {
        guard let reader else { return .unusable(error) }
        do throws(CairnError) {
            let damages = try reader.verify(deep: false).damages.map(\.error)
            if let trouble = damages.first(where: { !$0.isDamage }) { return .unreachable(trouble) }
            return damages.isEmpty ? .unusable(error) : .damaged(error)
        } catch {
            return .unreachable(error)
        }
    }
}
