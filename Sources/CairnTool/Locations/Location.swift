import CairnBase
import CairnStorage

/// A path as the user wrote it, taken apart: `runs/kjv@400` is the checkpoint of step 400 in the store `runs/kjv`.
struct Location: Sendable {
    /// Which checkpoint of a store.
    enum Selector: Sendable, Equatable {
        case latest
        case step(Int)
    }

    /// As the user wrote it, for messages.
    let text: String
    /// The path without the selector.
    let path: String
    let selector: Selector?

    /// Something that exists under the whole text wins over the reading with `@`.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when neither exists, ``CairnError/Code/invalidArgument`` for an invalid
    ///   selector.
    init(_ text: String) throws(CairnError) {
        self.text = text
        if try PathInspection.kind(of: text) != nil {
            path = text
            selector = nil
            return
        }
        guard let at = text.lastIndex(of: "@"), at > text.startIndex else {
            throw CairnError(.notFound, "there is no such file or directory", .init(file: text))
        }
        let path = String(text[..<at])
        guard try PathInspection.kind(of: path) != nil else {
            throw CairnError(.notFound, "there is no such file or directory", .init(file: path))
        }
        let name = String(text[text.index(after: at)...])
        if name == "latest" {
            selector = .latest
        } else if let step = Int(name), step >= 0 {
            selector = .step(step)
        } else {
            throw CairnError(
                .invalidArgument, "this does not name a checkpoint of a run",
                .init(file: text, expected: "@latest or @ and a step", found: "@" + name))
        }
        self.path = path
    }

    /// What choosing a checkpoint of something else than a run is.
    var selectorError: CairnError {
        CairnError(
            .invalidArgument, "only a run has checkpoints to choose from with @", .init(file: path, expected: "a run"))
    }

    func refuseSelector() throws(CairnError) {
        if selector != nil { throw selectorError }
    }
}
