import CairnBase

/// The names of rank files: `rank-00003-0123456789abcdef.safetensors`.
///
/// The save id is in the name so that two saves of one step that know nothing of each other never write the same file, and a
/// collector can tell whose a file is. Half of the id, 64 random bits, keeps names short and does not collide.
package enum RankFileName {
    private static let digitCount = 16
    private static let ending = ".safetensors"
    /// What a rank tells the one that commits, where they have nothing but the storage in common.
    private static let noteEnding = ".note"

    package static func make(rank: Int, saveID: SaveID) -> String { make(rank, saveID, ending) }

    /// The name of the note that a rank leaves beside its file until the save is decided.
    package static func makeNote(rank: Int, saveID: SaveID) -> String { make(rank, saveID, noteEnding) }

    private static func make(_ rank: Int, _ saveID: SaveID, _ ending: String) -> String {
        let digits = String(rank)
        let number = String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
        return "rank-\(number)-\(saveDigits(saveID))\(ending)"
    }

    /// What stands for a save in the names of its files.
    package static func saveDigits(_ saveID: SaveID) -> String { String(saveID.description.prefix(digitCount)) }

    /// What stands for the save in the name of a rank file or note, finished or not; `nil` for a name of another form.
    static func saveDigits(ofName name: some StringProtocol) -> String? {
        let parts = name.utf8.split(separator: UInt8(ascii: "-"), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].elementsEqual("rank".utf8), parts[2].count > digitCount,
            [ending, noteEnding].contains(where: { parts[2].dropFirst(digitCount).starts(with: $0.utf8) })
        else { return nil }
        return String(decoding: parts[2].prefix(digitCount), as: UTF8.self)
    }
}
