import CairnBase
import CairnTensor
import Synchronization

/// What the saves through one store know of the tensors that they wrote or referred to: where their bytes are, and that the
/// caller has not changed them since. Holds no tensor.
final class KnownFragments: Sendable {
    /// One rank's part of a tensor.
    struct Key: Hashable {
        var name: ExactString
        var region: Region
    }

    struct Known {
        var identity: TensorIdentity
        /// Which part of the caller's tensor the fragment is; `nil` for all of it.
        var part: Region?
        /// The file that has the bytes.
        var file: Manifest.EarlierFile

        func isOf(_ fragment: HeldFragment, in file: Manifest.EarlierFile) -> Bool {
            guard self.file == file, let origin = fragment.origin else { return false }
            return identity.isOf(origin.tensor) && part == origin.region
        }
    }

    private let ranks = Mutex<[Int: [Key: Known]]>([:])

    func known(ofRank rank: Int) -> [Key: Known] { ranks.withLock { $0[rank] ?? [:] } }

    /// Keeps what the newest save of a rank knows, and forgets what earlier ones did.
    func replace(_ known: [Key: Known], ofRank rank: Int) { ranks.withLock { $0[rank] = known } }
}

/// What a save will know of a rank's fragments once its file is there.
struct SaveMemory: Sendable {
    /// Each with the earlier file that has it; `nil` where the save's own file does.
    var entries: [(key: KnownFragments.Key, tensor: TensorIdentity, part: Region?, file: Manifest.EarlierFile?)] = []

    func known(writtenTo own: Manifest.EarlierFile) -> [KnownFragments.Key: KnownFragments.Known] {
        Dictionary(
            entries.map { ($0.key, .init(identity: $0.tensor, part: $0.part, file: $0.file ?? own)) },
            uniquingKeysWith: { first, _ in first })
    }
}
