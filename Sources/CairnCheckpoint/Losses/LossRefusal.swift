package import CairnBase

extension CairnError {
    /// How many losses an error spells out.
    private static let shownLossCount = 20

    /// What is thrown where notes of loss are errors: one line with what would not be carried over as it was.
    ///
    /// - Parameter notes: At least one sentence.
    package static func refusing(losses notes: [String], file: String? = nil) -> CairnError {
        let rest = notes.count - min(notes.count, shownLossCount)
        let shown = notes.prefix(shownLossCount).joined(separator: "; ") + (rest > 0 ? "; and \(rest) more" : "")
        return CairnError(
            .unsupported, "not everything can be carried over as it is, and notes of loss are errors here: \(shown)",
            .init(file: file, advice: "leave these out, or put up with the notes"))
    }
}
