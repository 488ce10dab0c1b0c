package import CairnBase
package import CairnStorage
import Synchronization

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
