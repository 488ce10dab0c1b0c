import CairnBase
import CairnStorage
import CairnTensor

/// What a zip file of `torch.save` holds, each thing at its path.
struct TorchContents {
    struct Entry {
        var path: [StateKey]
        var content: any TensorContent
        /// The same for tensors that are the same view of the same storage.
        var view: TorchView?
    }

    var tensors: [Entry] = []
    var values: [(path: [StateKey], value: Value)] = []
    var omissions: [String] = []
    /// The storages that tensors are views of, each once.
    var storages: [ZipRecord] = []

    /// Reads the pickle and makes sure that every storage is there and large enough. No elements are read.
    init(_ file: any StorageFile) throws(CairnError) {
        let archive = try TorchArchive(file)
        try self.init(PickledState(archive.pickle(), file: file.key), of: archive, file: file.key)
    }

    /// - Parameter archive: What has the storages; a bare pickle has none.
    init(_ state: PickledState, of archive: TorchArchive? = nil, file: String) throws(CairnError) {
        values = state.values
        omissions = state.omissions
        var opened: Set<ExactString> = []
        for (path, leaf) in state.tensors {
            switch leaf {
            case .held(let tensor): tensors.append(Entry(path: path, content: HeldTensor(tensor: tensor)))
            case .view(let view):
                let storage: ZipRecord
                do throws(CairnError) {
                    guard let archive else {
                        throw CairnError(.malformed, "a bare pickle has no storages", .init(file: file))
                    }
                    storage = try archive.storage(view.storage, byteCount: view.storageByteCount)
                } catch {
                    throw error.adding(.init(tensor: StateNames.joined(path)))
                }
                if opened.insert(ExactString(view.storage)).inserted { storages.append(storage) }
                tensors.append(Entry(path: path, content: view.content(storage), view: view))
            }
        }
    }
}
