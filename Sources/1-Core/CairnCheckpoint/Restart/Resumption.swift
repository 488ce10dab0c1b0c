public import CairnBase
package import CairnStorage
import Synchronization

/// What a training loop finds when it starts: three cases that must not be mixed up.
///
/// ```swift
/// var step = 0
/// switch try store.resume() {
/// case .nothingYet: break                                   // a new run: nothing has ever been saved
/// case .resumed(let latest): (state, step) = (latest.state, latest.step)
/// case .nothingUsable(let error, _): throw error            // there are checkpoints: a person should look at them
/// }
/// ```
public enum Resumption<State: Sendable>: Sendable {
    /// The store has no checkpoint, or does not exist: a run that starts from nothing.
    case nothingYet
    /// The newest checkpoint that could be read whole.
    case resumed(Loaded<State>)
    /// There are checkpoints and none can be used. The error, of code ``CairnError/Code/nothingUsable``, says so in a line; the
    /// list says of each why. A run that continued from nothing would train all of it again.
    case nothingUsable(CairnError, skipped: [CheckpointStore.Skipped])

    /// What was loaded; `nil` when there is nothing yet.
    ///
    /// - Throws: ``CairnError/Code/nothingUsable``.
    public func loaded() throws(CairnError) -> Loaded<State>? {
        switch self {
        case .nothingYet: return nil
        case .resumed(let loaded): return loaded
        case .nothingUsable(let error, _): throw error
        }
    }
}

/// What was loaded, and where it is from: a ``TrainingState``, or a ``ShardedState``, which is one rank's part.
public struct Loaded<State: Sendable>: Sendable {
    /// The state, every byte verified.
    public var state: State
    /// The checkpoint that it is from, the same on every rank.
    public var manifest: Manifest
    /// Newer checkpoints that could not be used, the newest first, each with the reason: of which some rank could not read its
    /// part.
    public var skipped: [CheckpointStore.Skipped]

    package init(state: State, manifest: Manifest, skipped: [CheckpointStore.Skipped] = []) {
        self.state = state
        self.manifest = manifest
        self.skipped = skipped
    }

    /// The step to continue from.
    public var step: Int { manifest.step }
}

extension CheckpointStore {
    /// Loads the newest checkpoint that can be read whole, and tells a store without any from one where none is usable.
    ///
    /// It falls back past damaged checkpoints and past those in quarantine, and says which and why. What it finds damaged it puts
    /// in quarantine, where the storage can be written. It is not lost when the run saves that step again: the save sets it aside
    /// (``SetAside``).
    ///
    /// - Throws: An error that says nothing about the checkpoints, at once: a path that is a file
    ///   (``CairnError/Code/notADirectory``), missing rights (``CairnError/Code/accessDenied``), a failing disk
    ///   (``CairnError/Code/inputOutput``); what ``LoadOptions/progress`` throws.
    public func resume(options: LoadOptions = LoadOptions()) throws -> Resumption<TrainingState> {
        var skipped: [Skipped] = []
        for (step, isMarked) in try committedSteps().reversed() {
            var reader: CairnReader?
            do {
                if isMarked { try refuseQuarantined(step) }
                let opened = try open(step: step)
                reader = opened
                let state = try TrainingState(reading: opened, options: options)
                KnownDamage.shared.forget(opened.manifest.saveID, step: step, in: storage)
                return .resumed(Loaded(state: state, manifest: opened.manifest, skipped: skipped))
            } catch let error as CairnError where error.code.isUnusable {
                try recordDamage(error, reader, step, isAsked: options.names != nil)
                skipped.append(Skipped(step: step, error: error))
            }
        }
        return skipped.isEmpty ? .nothingYet : .nothingUsable(noneUsable(skipped), skipped: skipped)
    }

    /// Loads the newest usable checkpoint without blocking the calling task's thread.
    public func resume(options: LoadOptions = LoadOptions()) async throws -> Resumption<TrainingState> {
        try await ThreadPool.shared.run { try self.resume(options: options) }
    }

    /// Remembers what a load has found, so that a save of the same step does not overwrite it, and puts what is damaged in
    /// quarantine.
    ///
    /// - Parameter isAsked: Whether the load was of names, of which one may never have been there.
    private func recordDamage(_ error: CairnError, _ reader: CairnReader?, _ step: Int, isAsked: Bool) throws(CairnError) {
        guard let reader else { return }
        if isAsked, error.code == .notFound, try reader.verify(deep: false).isValid { throw error }
        KnownDamage.shared.record(error, of: reader.manifest.saveID, step: step, in: storage)
        // Other processes learn of it by the quarantine: else the next `prune` would count it as the newest that is whole. A
        // storage that cannot be written can still be read.
        guard case .damaged = LoadErrorClassification(of: error, reading: reader) else { return }
        _ = try? quarantine(step: step, saveID: reader.manifest.saveID, because: error)
    }
}

/// Which checkpoints this process has found damaged when it loaded them.
///
/// Damage within the data shows only when all of it is read. A later save of the same step, or a deletion of old checkpoints,
/// knows of it by this and need not read the data again.
package final class KnownDamage: Sendable {
    /// That of this process: stores of one place are many objects.
    package static let shared = KnownDamage()

    private struct Key: Hashable {
        var location: String
        var distinction: Distinction?
        var saveID: SaveID

        init(_ storage: any Storage, step: Int, saveID: SaveID) {
            location = storage.location(of: StepName.prefix(step))
            distinction = storage.distinction
            self.saveID = saveID
        }
    }

    private let errors = Mutex<[Key: CairnError]>([:])

    /// Records what was found.
    package func record(_ error: CairnError, of saveID: SaveID, step: Int, in storage: any Storage) {
        errors.withLock { $0[Key(storage, step: step, saveID: saveID)] = error }
    }

    /// Forgets it: the checkpoint has been read whole.
    package func forget(_ saveID: SaveID, step: Int, in storage: any Storage) {
        errors.withLock { _ = $0.removeValue(forKey: Key(storage, step: step, saveID: saveID)) }
    }

    /// What is known against a checkpoint.
    package func error(of saveID: SaveID, step: Int, in storage: any Storage) -> CairnError? {
        errors.withLock { $0[Key(storage, step: step, saveID: saveID)] }
    }
}

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
        case let code where code.isDamage: self = .damaged(error)
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
            if let trouble = damages.first(where: { !$0.code.isUnusable }) { return .unreachable(trouble) }
            return damages.isEmpty ? .unusable(error) : .damaged(error)
        } catch {
            return .unreachable(error)
        }
    }
}
