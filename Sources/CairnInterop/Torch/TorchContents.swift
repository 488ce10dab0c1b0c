import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a file of PyTorch holds, each thing at its path.
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
    /// How they are nested; tensors stand there by their places in ``tensors``.
    var structure = StateNode.dictionary([])
    /// The storages that tensors are views of and that have checksums, each once.
    var storages: [ZipRecord] = []

    private static let signatureByteCount = 512

    /// Nothing yet.
    init() {}

    /// Reads the pickles and makes sure that every storage is there and large enough. No elements are read.
    ///
    /// - Parameter isPart: Whether the file is one value of a larger state, which may be any object.
    init(_ file: any StorageFile, isPart: Bool = false) throws(CairnError) {
        let beginning = try file.bytes(in: 0..<min(Self.signatureByteCount, file.byteCount))
        switch TorchContainer(beginning: beginning) {
        case .legacy:
            let legacy = try LegacyTorchFile(file)
            try self.init(PickledState(legacy.graph, file: file.key, isPart: isPart), of: legacy)
        case .pickle: try self.init(pickle: file, isPart: isPart)
        case .tar:
            throw CairnError(
                .unsupported, "the file is a tar archive of PyTorch before version 0.1.13, which is not read",
                .init(file: file.key, advice: "load it with PyTorch and save it anew"))
        case .zip:
            let zip = try ZipArchive(file)
            if let exported = try ExportedProgram(zip) {
                self = try exported.contents()
                return
            }
            let archive = try TorchArchive(zip)
            try self.init(PickledState(archive.pickle(), file: file.key, isPart: isPart), of: archive)
            if let constants = archive.constants { try add(constants) }
        }
    }

    /// A pickle with nothing beside it.
    private init(pickle file: any StorageFile, isPart: Bool) throws(CairnError) {
        let limits = PickleLimits()
        guard file.byteCount <= limits.byteCount else {
            throw CairnError(
                .unsupported, "the pickle is too long",
                .init(file: file.key, expected: "at most \(limits.byteCount) bytes", found: "\(file.byteCount)"))
        }
        var interpreter = PickleInterpreter(
            try file.bytes(in: 0..<file.byteCount), limits: limits, file: file.key)
        let graph = try interpreter.next()
        guard interpreter.position == file.byteCount else {
            throw CairnError(
                .unsupported, "something follows the pickle",
                .init(
                    file: file.key, offset: interpreter.position, expected: "a file of torch.save, or one pickle",
                    found: "\(file.byteCount - interpreter.position) bytes"))
        }
        try self.init(
            PickledState(graph, file: file.key, isPart: isPart), of: NoStorages(file: file.key))
    }

    /// - Parameter storages: What has the storages.
    init(_ state: PickledState, of storages: some TorchStorages) throws(CairnError) {
        values = state.values
        omissions = state.omissions
        structure = state.structure
        try add(state.tensors, of: storages)
    }

    private mutating func add(
        _ leaves: [(path: [StateKey], leaf: PickledState.Leaf)], of storages: some TorchStorages
    ) throws(CairnError) {
        var opened: Set<ExactString> = []
        for (path, leaf) in leaves {
            switch leaf {
            case .held(let tensor): tensors.append(Entry(path: path, content: HeldTensor(tensor: tensor)))
            case .view(let view):
                let storage: any StorageFile
                do throws(CairnError) {
                    storage = try storages.storage(view.storage, byteCount: view.storageByteCount)
                } catch {
                    throw error.adding(.init(tensor: StateNames.joined(path)))
                }
                if opened.insert(ExactString(view.storage)).inserted, let record = storage as? ZipRecord {
                    self.storages.append(record)
                }
                tensors.append(
                    Entry(path: path, content: view.content(storage, isBigEndian: storages.isBigEndian), view: view))
            }
        }
    }

    /// Adds the tensors among the constants of TorchScript's code where they are the weights: a frozen module has no
    /// others. Elsewhere they are no part of the state.
    private mutating func add(_ constants: TorchArchive) throws(CairnError) {
        let state = try PickledState(constants.pickle(), file: constants.zip.file.key)
        var leaves: [(path: [StateKey], leaf: PickledState.Leaf)] = []
        for (path, leaf) in state.tensors {
            guard case .view(var view) = leaf, view.shape.elementCount > 0 else { continue }
            // Storages of the two pickles have the same keys.
            view.storage = "constants/" + view.storage
            leaves.append((["constants"] + path, .view(view)))
        }
        guard !leaves.isEmpty else { return }
        guard tensors.isEmpty else {
            omissions.append("\(leaves.count) tensors are constants of the code and left out")
            return
        }
        let first = tensors.count
        try add(leaves, of: ConstantStorages(archive: constants))
        guard case .dictionary(let members) = structure else { return }
        let nodes = leaves.indices.map { StateNode.tensor(String(first + $0)) }
        structure = .dictionary(members + [.init(key: "constants", node: .list(nodes))])
    }

    /// The storages of constants under the keys that tell them from the others.
    private struct ConstantStorages: TorchStorages {
        let archive: TorchArchive
        var isBigEndian: Bool { archive.isBigEndian }

        func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile {
            try archive.storage(String(key.dropFirst("constants/".count)), byteCount: byteCount)
        }
    }

    /// The structure with tensors under their names.
    func structure(naming names: [String]) -> StateNode { structure.naming { Int($0).map { names[$0] } ?? $0 } }
}
