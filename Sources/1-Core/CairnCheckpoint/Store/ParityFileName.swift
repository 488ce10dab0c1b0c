import CairnBase

/// The names of parity files in the folder of a step: `parity-00-8c1f3e0d5a7b9246.safetensors`. They are no part of the
/// checkpoint, and go with it.
package enum ParityFileName {
    static let beginning = "parity-"
    private static let ending = ".safetensors"

    /// What the names of all files of one protection begin and end with.
    package static func make(number: Int, saveDigits: String) -> String {
        "\(beginning)\(number < 10 ? "0" : "")\(number)-\(saveDigits)\(ending)"
    }

    /// The number of the file and what stands for its save; `nil` for a name of another form.
    package static func parse(_ name: some StringProtocol) -> (number: Int, saveDigits: String)? {
        guard name.hasPrefix(beginning), name.hasSuffix(ending) else { return nil }
        let parts = name.dropFirst(beginning.count).dropLast(ending.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Int(parts[0]), number >= 0, number < 255, parts[1].utf8.count == 16,
            make(number: number, saveDigits: String(parts[1])) == name
        else { return nil }
        return (number, String(parts[1]))
    }

    /// Which of some keys are parity files of a save.
    static func keys(_ keys: some Sequence<String>, prefix: String, of saveID: SaveID) -> [String] {
        let digits = RankFileName.saveDigits(saveID)
        return keys.filter { $0.hasPrefix(prefix) && parse($0.dropFirst(prefix.count))?.saveDigits == digits }
    }
}
