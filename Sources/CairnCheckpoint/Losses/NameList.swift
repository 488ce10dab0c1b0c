/// Names in a note: all of them, but for the rest of very many.
package enum NameList {
    /// How many names a note spells out.
    private static let shownCount = 100

    /// `"a", "b" and 3 more`
    package static func text(_ names: [String]) -> String {
        let rest = names.count - min(names.count, shownCount)
        let shown = names.prefix(shownCount).map { "\"\($0)\"" }.joined(separator: ", ")
        return shown + (rest > 0 ? " and \(rest) more" : "")
    }
}
