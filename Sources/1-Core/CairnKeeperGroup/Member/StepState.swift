package import CairnBase
import CairnCheckpoint
import CairnKeeper

/// What a manifest says of the files of its save.
package struct SavedFiles: Sendable {
    package var saveID: String
    /// The files' names beside the manifest, and their sizes.
    package var files: [String: Int]

    package init(saveID: String, files: [String: Int]) {
        self.saveID = saveID
        self.files = files
    }

    package init(manifest bytes: [UInt8], file: String) throws(CairnError) {
        let manifest = try Manifest(parsing: bytes, file: file)
        saveID = manifest.saveID.description
        files = Dictionary(manifest.files.map { ($0.name, $0.byteCount) }) { first, _ in first }
    }
}

/// What a member knows and has of one save.
package struct StepState {
    package internal(set) var modified: Int64
    package internal(set) var manifestByteCount: Int
    /// The files of the save by their keys, and their sizes.
    let files: [String: Int]
    package internal(set) var descriptors: [BundleDescriptor?]
    /// When the description of each member is asked for next, and of whom.
    var nextAsk: [Int64]
    var askedOf: [Int]
    /// Who did not have the description of each member, and when all that could be asked had said so.
    var refused: [Set<Int>]
    var exhausted: [Int64]
    /// The checksums of the own bundle, as far as they are computed.
    var describing: Describing?
    package internal(set) var geometry: SaveGeometry?
    /// Whether all of the own bundle is here.
    var isHere = false
    var isRebuilding = false
    var nextRebuild: Int64 = 0
    package internal(set) var rebuiltByteCount = 0
    package internal(set) var parities: [Parity] = []
    /// Why it cannot be protected, and when that is tried again.
    package internal(set) var failure: CairnError?
    var nextTry: Int64 = 0
    /// Keys that the trainers have deleted, and that stay until a newer save is protected.
    package internal(set) var deferred: Set<String> = []

    struct Describing {
        var items: [BundleDescriptor.Item]
        var byteCount: Int
        var cell: Int
        var checksums: [UInt32] = []
    }

    /// One of the parities that the member holds, as it is added up.
    package struct Parity {
        package let stripe: Int
        let index: Int
        let memory: KeptMemory
        /// What is to be pulled: the next portion of the next column, and what failed before.
        var column = 0
        var offset = 0
        var again: [(column: Int, offset: Int)] = []
        var nextTry: Int64 = 0
        var outstanding = 0
        package internal(set) var doneByteCount = 0
        let totalByteCount: Int

        package var isComplete: Bool { doneByteCount == totalByteCount }
    }

    init(_ saved: SavedFiles, prefix: String, modified: Int64, manifestByteCount: Int, memberCount: Int) {
        files = Dictionary(saved.files.map { (prefix + $0.key, $0.value) }) { first, _ in first }
        self.modified = modified
        self.manifestByteCount = manifestByteCount
        descriptors = Array(repeating: nil, count: memberCount)
        nextAsk = Array(repeating: 0, count: memberCount)
        askedOf = Array(0..<memberCount)
        refused = Array(repeating: [], count: memberCount)
        exhausted = Array(repeating: -1, count: memberCount)
    }

    /// Whether everything that this member should have is there.
    package var isComplete: Bool { geometry != nil && isHere && failure == nil && parities.allSatisfy(\.isComplete) }

    var progress: GroupState.Progress { isComplete ? .complete : failure == nil ? .working : .failed }

    package var parityByteCount: Int { parities.reduce(0) { $0 + $1.memory.capacity } }
}
