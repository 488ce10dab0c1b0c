import Cairn

/// The store of a run that does not exist yet.
enum NewStore {
    /// - Throws: ``CairnError/Code/alreadyExists`` when there are checkpoints already.
    static func open(_ folder: String) throws(CairnError) -> CheckpointStore {
        let store = CheckpointStore(path: folder)
        guard try store.steps().isEmpty else {
            throw CairnError(
                .alreadyExists, "the folder holds checkpoints already", .init(file: folder, advice: "choose another"))
        }
        return store
    }
}
