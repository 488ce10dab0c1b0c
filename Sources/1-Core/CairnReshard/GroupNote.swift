import CairnBase
import CairnCheckpoint

/// What ranks that load together tell each other.
enum GroupNote {
    /// A checkpoint of a tier, or a tier that could not be looked at.
    struct Candidate {
        var tier: Int
        /// `nil` for a tier that could not be looked at.
        var step: Int?
        /// Why it is not tried as it is.
        var error: CairnError?
        var isRepairable = false
        var isCommitted = true

        var ways: [RestartCandidate.Way] {
            RestartCandidate(tier: tier, step: step ?? 0, isRepairable: isRepairable, isCommitted: isCommitted).ways
        }
    }

    /// What there is, the best first.
    case candidates([Candidate])
    case read(SaveID)
    /// The save is known where its manifest could be read.
    case damaged(CairnError, SaveID?)
    case unusable(CairnError)
    case unreachable(CairnError)
    /// An error that no other checkpoint would mend.
    case refused(CairnError)
    /// Whether a checkpoint was put in quarantine, or mended.
    case marked(Bool)
    /// Of which files a rank rebuilt something.
    case files([String])

    /// A letter, and what belongs to it.
    func encoded() -> [UInt8] {
        switch self {
        case .candidates(let candidates): Self.bytes("l", candidates.map(Self.line).joined(separator: "\n"))
        case .read(let saveID): Self.bytes("r", "\(saveID)")
        case .damaged(let error, let saveID): Self.bytes("d", (saveID.map { "\($0)" } ?? "") + " " + Self.text(error))
        case .unusable(let error): Self.bytes("u", Self.text(error))
        case .unreachable(let error): Self.bytes("i", Self.text(error))
        case .refused(let error): Self.bytes("f", Self.text(error))
        case .marked(let isMarked): Self.bytes("m", isMarked ? "1" : "0")
        case .files(let locations): Self.bytes("b", locations.joined(separator: "\n"))
        }
    }

    /// - Throws: ``CairnError/Code/malformed`` for bytes that no rank of this version sends.
    init(parsing bytes: [UInt8]) throws(CairnError) {
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        switch bytes.first {
        case UInt8(ascii: "l"):
            var candidates: [Candidate] = []
            for line in text.split(separator: "\n") { candidates.append(try Self.candidate(line)) }
            self = .candidates(candidates)
        case UInt8(ascii: "r"):
            guard let saveID = SaveID(text) else { throw Self.unreadable() }
            self = .read(saveID)
        case UInt8(ascii: "d"):
            guard let space = text.firstIndex(of: " ") else { throw Self.unreadable() }
            self = .damaged(try Self.error(text[text.index(after: space)...]), SaveID(String(text[..<space])))
        case UInt8(ascii: "u"): self = .unusable(try Self.error(text[...]))
        case UInt8(ascii: "i"): self = .unreachable(try Self.error(text[...]))
        case UInt8(ascii: "f"): self = .refused(try Self.error(text[...]))
        case UInt8(ascii: "m"): self = .marked(text == "1")
        case UInt8(ascii: "b"): self = .files(text.split(separator: "\n").map(String.init))
        default: throw Self.unreadable()
        }
    }

    private static func bytes(_ letter: String, _ text: String) -> [UInt8] { Array((letter + text).utf8) }

    /// Tier, step, whether there is a manifest and a repair, and error, separated by spaces.
    private static func line(_ candidate: Candidate) -> String {
        let ways = (candidate.isCommitted ? "c" : "") + (candidate.isRepairable ? "r" : "")
        return "\(candidate.tier) \(candidate.step.map(String.init) ?? "-") \(ways) " + (candidate.error.map(text) ?? "")
    }

    private static func candidate(_ line: Substring) throws(CairnError) -> Candidate {
        let parts = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let tier = Int(parts[0]), parts[1] == "-" || Int(parts[1]) != nil else {
            throw unreadable()
        }
        return Candidate(
            tier: tier, step: Int(parts[1]), error: parts[3].isEmpty ? nil : try error(parts[3]),
            isRepairable: parts[2].contains("r"), isCommitted: parts[2].contains("c"))
    }

    /// The files that a rank names.
    func rebuiltFiles() throws(CairnError) -> [String] {
        guard case .files(let locations) = self else { throw Self.unreadable() }
        return locations
    }

    /// An error as JSON, which has no line feeds.
    private static func text(_ error: CairnError) -> String {
        String(decoding: RankNote.failed(error).encoded(), as: UTF8.self)
    }

    private static func error(_ text: Substring) throws(CairnError) -> CairnError {
        guard case .failed(let error) = try RankNote(parsing: Array(text.utf8)) else { throw unreadable() }
        return error
    }

    static func unreadable() -> CairnError {
        CairnError(.malformed, "a rank's report of its load cannot be read")
    }
}

extension GroupNote {
    init(_ classification: LoadErrorClassification, saveID: SaveID?) {
        switch classification {
        case .damaged(let error): self = .damaged(error, saveID)
        case .unusable(let error): self = .unusable(error)
        case .unreachable(let error): self = .unreachable(error)
        case .refused(let error): self = .refused(error)
        }
    }
}
