/// The folder of a step in a store: `step-00000400/`.
package enum StepName {
    /// The prefix of every key of a step's checkpoint.
    package static func prefix(_ step: Int) -> String {
        let digits = String(step)
        return "step-" + String(repeating: "0", count: max(0, 8 - digits.utf8.count)) + digits + "/"
    }

    /// What beside the manifest tells how a snapshot was taken and saved; no part of the checkpoint.
    package static let timelineName = "timeline.json"

    /// What beside the manifest says that the checkpoint is not to be used; see ``Quarantine``.
    package static let quarantineName = "quarantine.json"

    /// What stands beside a checkpoint without being part of it.
    static let companionNames = [timelineName, quarantineName]

    /// The step that a key belongs to, or `nil` for a key that is not a checkpoint's.
    package static func step(ofKey key: String) -> Int? {
        guard key.hasPrefix("step-"), let slash = key.firstIndex(of: "/") else { return nil }
        let digits = key[key.index(key.startIndex, offsetBy: 5)..<slash]
        guard let step = Int(digits), step >= 0, key.hasPrefix(prefix(step)) else { return nil }
        return step
    }
}
