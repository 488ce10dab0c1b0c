package import CairnBase
import Synchronization

/// How damaged checkpoints of a store come back while they are read: by parity beside them. Who can do that conforms to it.
package protocol CheckpointRepair: Sendable {
    /// What it repairs by, for reports: `parity`.
    var name: String { get }
    /// Whether the store is mended too, once a checkpoint was loaded of which something had to be rebuilt.
    var writesBack: Bool { get }

    /// The steps of which something may come back, their manifests too, by the names of what is there.
    func steps(in store: CheckpointStore) throws(CairnError) -> [Int]

    /// The same store as it was: what is lost or damaged is rebuilt when it is read. Nothing is written.
    ///
    /// - Parameter onRepair: Called once for each file of which something is rebuilt.
    func repaired(_ store: CheckpointStore, onRepair: @escaping @Sendable (_ location: String) -> Void) -> CheckpointStore

    /// Writes what is lost or damaged of a step's checkpoint anew. Cut off, it leaves each file as it was or mended.
    func mend(_ store: CheckpointStore, step: Int) throws
}

/// A checkpoint that a restart may continue from.
package struct RestartCandidate: Sendable {
    /// How it can be read.
    package enum Way: Sendable {
        /// As it is.
        case stored
        /// As its tier's repair gives it.
        case repaired
    }

    /// Which of the tiers has it.
    package var tier: Int
    package var step: Int
    package var quarantine: Quarantine?
    /// Whether the tier's repair may bring back what it has lost.
    package var isRepairable: Bool
    /// Whether it has a manifest; without one only a repair can bring it back.
    package var isCommitted: Bool

    package init(
        tier: Int, step: Int, quarantine: Quarantine? = nil, isRepairable: Bool = false, isCommitted: Bool = true
    ) {
        self.tier = tier
        self.step = step
        self.quarantine = quarantine
        self.isRepairable = isRepairable
        self.isCommitted = isCommitted
    }

    /// The ways to try, in order: the next only where the one before shows damage.
    package var ways: [Way] { (isCommitted ? [.stored] : []) + (isRepairable ? [.repaired] : []) }

    /// Whether there is none after this one.
    package func isLast(_ way: Way) -> Bool { ways.last == way }
}

/// What there is on the tiers of a recovery order.
package struct RestartSurvey: Sendable {
    /// All checkpoints, the best first.
    package var candidates: [RestartCandidate] = []
    /// The tiers that could not be looked at.
    package var lost: [(tier: Int, error: CairnError, seconds: Double)] = []
}

/// The files of which something was rebuilt while a checkpoint was read.
package final class RebuiltFiles: Sendable {
    private let locations = Mutex<Set<String>>([])

    package init() {}

    package var all: [String] { locations.withLock { $0.sorted() } }

    package func add(_ location: String) { locations.withLock { _ = $0.insert(location) } }
}

extension CheckpointTier {
    /// Its store, to be read in one of the ways; notes what is rebuilt.
    package func store(_ way: RestartCandidate.Way, _ rebuilt: RebuiltFiles) -> CheckpointStore {
        guard way == .repaired, let repair else { return store }
        return repair.repaired(store) { rebuilt.add($0) }
    }
}
