import Cairn

/// A checkpoint of a store as it is typed: `runs/kjv` for the newest, `runs/kjv@400` for one.
struct StoreArgument: Sendable, Hashable {
    var folder: String
    /// `nil` for the newest.
    var step: Int?

    init(_ text: String) {
        folder = text
        guard let at = text.lastIndex(of: "@") else { return }
        let number = text[text.index(after: at)...]
        guard let step = Int(number), step >= 0 || number == "latest" else {
            if number == "latest" { folder = String(text[..<at]) }
            return
        }
        folder = String(text[..<at])
        self.step = step
    }

    /// Opens the checkpoint.
    func open() throws(CairnError) -> CairnReader {
        let store = CheckpointStore(path: folder)
        if let step { return try store.open(step: step) }
        let (newest, skipped) = try store.newestUsable()
        guard let newest else { throw store.noneUsable(skipped) }
        return try store.open(step: newest)
    }
}
