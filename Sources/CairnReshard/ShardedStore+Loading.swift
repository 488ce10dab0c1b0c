import CairnBase
public import CairnCheckpoint
import CairnCommunication
public import CairnLayout

/// What a rank has loaded.
public struct LoadedPart: Sendable {
    /// The rank's part of the state.
    public var state: ShardedState
    /// The checkpoint that it is from, the same on every rank.
    public var manifest: Manifest
    /// Newer checkpoints that some rank could not read its part of.
    public var skipped: [CheckpointStore.Skipped]
}

extension ShardedStore {
    /// Loads the newest checkpoint of which every rank can read its part; falls back past damaged ones and says which.
    ///
    /// All ranks call it together. What one rank finds damaged no rank uses: after each attempt the ranks tell each
    /// other in one small exchange how it went.
    ///
    /// - Parameter tensors: The state to make, the same list on every rank; its meshes number the ranks as the group
    ///   does.
    /// - Throws: On every rank: ``CairnError/Code/notFound`` when no checkpoint can be used; what makes one unfit for
    ///   `tensors`, as ``ReadPlan/init(reading:rank:tensors:)``; an error that is no damage, such as a failing disk.
    public func loadLatest(
        _ tensors: [PlacedTensor], options: ReadPlan.Options = ReadPlan.Options()
    ) throws -> LoadedPart {
        var skipped: [CheckpointStore.Skipped] = []
        for step in try agreedSteps() {
            let (part, note) = attempt(step, tensors, options)
            let notes = try communicator.allGather(message: note.encoded())
                .map { bytes throws(CairnError) in try LoadNote(parsing: bytes) }
            if let damage = try damage(in: notes) {
                skipped.append(.init(step: step, error: damage))
            } else if var part {
                part.skipped = skipped
                return part
            }
        }
        throw store.noneUsable(skipped)
    }

    /// The committed steps as rank 0 sees them, the newest first.
    private func agreedSteps() throws(CairnError) -> [Int] {
        var message: [UInt8]?
        if communicator.rank == 0 {
            do throws(CairnError) {
                message = LoadNote.steps(try store.steps().reversed()).encoded()
            } catch {
                message = LoadNote.failed(error).encoded()
            }
        }
        switch try LoadNote(parsing: communicator.broadcast(message: message, from: 0)) {
        case .steps(let steps): return steps
        case .failed(let error): throw error
        default: throw LoadNote.unreadable()
        }
    }

    private func attempt(
        _ step: Int, _ tensors: [PlacedTensor], _ options: ReadPlan.Options
    ) -> (part: LoadedPart?, note: LoadNote) {
        let reader: CairnReader
        let plan: ReadPlan
        do throws(CairnError) {
            reader = try store.open(step: step)
        } catch {
            return (nil, error.isDamage ? .damaged(error) : .failed(error))
        }
        do throws(CairnError) {
            plan = try ReadPlan(reading: reader, rank: communicator.rank, tensors: tensors)
        } catch {
            // The checkpoint is whole, but not of this state: an older one would not be either.
            return (nil, .failed(error))
        }
        do {
            let state = try plan.execute(reading: reader, options: options)
            return (LoadedPart(state: state, manifest: reader.manifest, skipped: []), .read(reader.manifest.saveID))
        } catch {
            let error = error as? CairnError ?? CairnError(.inputOutput, "the part could not be read", cause: error)
            return (nil, error.isDamage ? .damaged(error) : .failed(error))
        }
    }

    /// Why a checkpoint is not to be used, if it is not: the same on every rank.
    private func damage(in notes: [LoadNote]) throws(CairnError) -> CairnError? {
        var damage: CairnError?
        var saves: Set<SaveID> = []
        for (rank, note) in notes.enumerated() {
            switch note {
            case .failed(let error): throw error.adding(.init(rank: rank))
            case .damaged(let error): damage = damage ?? error.adding(.init(rank: rank))
            case .read(let saveID): saves.insert(saveID)
            case .steps: throw LoadNote.unreadable()
            }
        }
        if damage == nil, saves.count > 1 {
            return CairnError(.mismatch, "the ranks have read different saves of one step")
        }
        return damage
    }
}

/// What ranks that load together tell each other.
private enum LoadNote {
    case steps([Int])
    case read(SaveID)
    case damaged(CairnError)
    /// An error that no older checkpoint would mend.
    case failed(CairnError)

    /// A letter, and what belongs to it.
    func encoded() -> [UInt8] {
        switch self {
        case .steps(let steps): Array(("s" + steps.map(String.init).joined(separator: ",")).utf8)
        case .read(let saveID): Array("r\(saveID)".utf8)
        case .damaged(let error): Array("d".utf8) + RankNote.failed(error).encoded()
        case .failed(let error): Array("f".utf8) + RankNote.failed(error).encoded()
        }
    }

    init(parsing bytes: [UInt8]) throws(CairnError) {
        let rest = Array(bytes.dropFirst())
        let text = String(decoding: rest, as: UTF8.self)
        switch bytes.first {
        case UInt8(ascii: "s"): self = .steps(text.split(separator: ",").compactMap { Int($0) })
        case UInt8(ascii: "r"):
            guard let saveID = SaveID(text) else { throw Self.unreadable() }
            self = .read(saveID)
        case UInt8(ascii: "d"): self = .damaged(try Self.error(rest))
        case UInt8(ascii: "f"): self = .failed(try Self.error(rest))
        default: throw Self.unreadable()
        }
    }

    private static func error(_ bytes: [UInt8]) throws(CairnError) -> CairnError {
        guard case .failed(let error) = try RankNote(parsing: bytes) else { throw unreadable() }
        return error
    }

    static func unreadable() -> CairnError {
        CairnError(.malformed, "a rank's account of its load cannot be read")
    }
}
