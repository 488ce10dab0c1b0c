import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a file of PyTorch holds, each thing at its path.
struct TorchContents {
    struct TensorEntry {
        var path: [StateKey]
        var content: any TensorView
        /// The same for tensors that are the same view of the same storage.
        var view: TorchView?
        /// What of the tensor the file has, where it is sharded over ranks, and its pieces.
        var part: RankPart?
        var assembled: AssembledTensor?
        /// The file, where there are several.
        var file: String?
    }

    var tensors: [TensorEntry] = []
    var values: [(path: [StateKey], value: Value)] = []
    var skippedEntries: [String] = []
    /// How many tensors are in the file and not here.
    var skippedTensorCount = 0
    /// What else is in the file beside the save that was read, a sentence.
    var remarks: [String] = []
    /// How they are nested; tensors stand there by their places in ``tensors``.
    var structure = StateNode.dictionary([])
    /// The storages that tensors are views of and that have checksums, each once.
    var storages: [ZipRecord] = []
    /// Where what was read ends in the file.
    private(set) var end = 0

    private static let signatureByteCount = 512

    /// Nothing yet.
    init() {}

    /// Reads the pickles and makes sure that every storage is there and large enough. No elements are read.
    ///
    /// - Parameters:
    ///   - isPart: Whether the file is one value of a larger state, which may be any object.
    ///   - isWhole: Whether nothing may follow what is read.
    init(_ file: any StorageFile, isPart: Bool = false, isWhole: Bool = true) throws(CairnError) {
        try self.init(reading: file, isPart: isPart)
        guard isWhole, end < file.byteCount else { return }
        throw CairnError(
            .unsupported, "something follows the state in the file",
            .init(
                file: file.key, offset: end, expected: "a file of torch.save, or one pickle",
                found: "\(file.byteCount - end) bytes"))
    }

    private init(reading file: any StorageFile, isPart: Bool) throws(CairnError) {
        let beginning = try file.bytes(in: 0..<min(Self.signatureByteCount, file.byteCount))
        switch TorchContainer(beginning: beginning) {
        case .legacy:
            let legacy = try LegacyTorchFile(file)
            try self.init(PickledState(legacy.graph, file: file.key, isPart: isPart), of: legacy)
            end = legacy.end
        case .pickle: try self.init(pickle: file, isPart: isPart)
        case .tar:
            throw CairnError(
                .unsupported, "the file is a tar archive of PyTorch before version 0.1.13, which is not read",
                .init(file: file.key, advice: "load it with PyTorch and save it anew"))
        case .zip:
            let zip = try ZipArchive(file)
            if let exported = try ExportedProgram(zip) {
                self = try exported.contents()
                end = file.byteCount
                return
            }
            let archive = try TorchArchive(zip)
            try self.init(PickledState(archive.pickle(), file: file.key, isPart: isPart), of: archive)
            if let constants = archive.constants { try add(constants) }
            end = file.byteCount
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
        try self.init(
            PickledState(graph, file: file.key, isPart: isPart), of: NoStorages(file: file.key))
        end = interpreter.position
    }

    /// - Parameter storages: What has the storages.
    init(_ state: PickledState, of storages: some TorchStorages) throws(CairnError) {
        values = state.values
        skippedEntries = state.skippedEntries
        skippedTensorCount = state.skippedTensorCount
        structure = state.structure
        try add(state.tensors, of: storages)
    }

    private mutating func add(
        _ leaves: [(path: [StateKey], leaf: PickledState.Leaf)], of storages: some TorchStorages
    ) throws(CairnError) {
        var opened: Set<ExactString> = []
        for (path, leaf) in leaves {
            do throws(CairnError) {
                switch leaf {
                case .held(let tensor): tensors.append(TensorEntry(path: path, content: HeldView(tensor)))
                case .view(let view):
                    let content = try content(view, of: storages, &opened)
                    tensors.append(TensorEntry(path: path, content: content, view: view))
                case .part(let part):
                    let assembled = try content(part, of: storages, &opened)
                    tensors.append(TensorEntry(path: path, content: assembled, part: part, assembled: assembled))
                }
            } catch {
                throw error.adding(.init(tensor: StateNames.joined(path)))
            }
        }
    }

    private mutating func content(
        _ view: TorchView, of storages: some TorchStorages, _ opened: inout Set<ExactString>
    ) throws(CairnError) -> any TensorView {
        let storage = try storages.storage(view.storage, byteCount: view.storageByteCount)
        if opened.insert(ExactString(view.storage)).inserted, let record = storage as? ZipRecord {
            self.storages.append(record)
        }
        return view.content(storage, isBigEndian: storages.isBigEndian)
    }

    /// The pieces that the file has of a tensor.
    private mutating func content(
        _ part: RankPart, of storages: some TorchStorages, _ opened: inout Set<ExactString>
    ) throws(CairnError) -> AssembledTensor {
        var locals: [any TensorView] = []
        for local in part.locals {
            switch local {
            case .view(let view): locals.append(try content(view, of: storages, &opened))
            case .held(let tensor): locals.append(HeldView(tensor))
            default: throw RankPart.malformed("a rank's part")
            }
        }
        let pieces = try part.pieces.map { piece throws(CairnError) in
            let local = locals[piece.position]
            let content = MappedView(local, try WindowMapping(piece.local, of: local.shape))
            return AssembledTensor.Piece(
                region: piece.whole, file: "", open: { content }, location: .init(file: "", offset: 0, byteCount: 0))
        }
        return AssembledTensor(scalarType: part.scalarType, shape: part.shape, pieces: pieces)
    }

    /// Adds the tensors among the constants of TorchScript's code where they are the weights: a frozen module has no
    /// others. Elsewhere they are not part of the state.
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
            skippedEntries.append("\(leaves.count) tensors are constants of the code and left out")
            skippedTensorCount += leaves.count
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

    /// The values one by one, each at its path.
    var leaves: [(path: [StateKey], value: Value)] { structure.leaves() }

    /// The structure with tensors under their names.
    func structure(naming names: [String]) -> StateNode { structure.naming { Int($0).map { names[$0] } ?? $0 } }
}

/// The saves in a file that has several, one behind the other, as `torch.save` and `pickle.dump` leave them when the same
/// open file is given to them again.
struct TorchSaves {
    /// Where each of them is.
    private(set) var ranges: [Range<Int>] = []
    /// Bytes behind the last save that are not a save.
    private(set) var rest = 0..<0

    private static let signatureByteCount = 512
    private static let greatestCount = 100_000

    /// - Parameter limit: How many are looked for at most; what follows them is then no concern.
    init(in file: any StorageFile, limit: Int? = nil) throws(CairnError) {
        var offset = 0
        while offset < file.byteCount, ranges.count < min(limit ?? .max, Self.greatestCount) {
            let window = try FileWindow(file, offset: offset, byteCount: file.byteCount - offset)
            let length: Int
            do throws(CairnError) {
                guard let found = try Self.length(of: window) else { break }
                length = found
            } catch {
                // An error of the first save is the file's; what follows it and is not a save is only bytes.
                guard ranges.isEmpty || error.code == .inputOutput else { break }
                throw error
            }
            guard length > 0 else { break }
            ranges.append(offset..<offset + length)
            offset += length
        }
        rest = offset..<file.byteCount
    }

    /// The length of the save that a file begins with; `nil` where none begins.
    private static func length(of file: FileWindow) throws(CairnError) -> Int? {
        let beginning = try file.bytes(in: 0..<min(signatureByteCount, file.byteCount))
        switch TorchContainer(beginning: beginning) {
        case .legacy: return try LegacyTorchFile(file).end
        case .pickle:
            let limits = PickleLimits()
            var interpreter = PickleInterpreter(
                try file.bytes(in: 0..<min(file.byteCount, limits.byteCount)), limits: limits, file: file.key)
            _ = try interpreter.next()
            return interpreter.position
        case .zip:
            guard beginning.starts(with: [0x50, 0x4B, 3, 4]) else { return nil }
            return try zipLength(of: file)
        case .tar: return nil
        }
    }

    /// The length of the zip archive at the beginning of a file: as a rule all of it.
    static func zipLength(of file: any StorageFile) throws(CairnError) -> Int {
        do throws(CairnError) {
            _ = try ZipDirectory(of: file)
            return file.byteCount
        } catch {
            if let end = ZipEnd(of: file, from: 0)?.end { return end }
            throw error
        }
    }

    /// What follows a save, as a note: other saves, or bytes that are not a save.
    ///
    /// - Parameter part: Which one it is, counted from 1.
    func note(after part: Int, byteCount: Int) -> String? {
        var words: [String] = []
        if ranges.count > 1 {
            let others = ranges.indices.filter { $0 != part - 1 }
            let locations = others.prefix(8).map { "\($0 + 1) at offset \(ranges[$0].lowerBound)" }.joined(separator: ", ")
            words.append(
                "the file holds \(ranges.count) saves, of which number \(part) is read; there are also number "
                    + locations + (others.count > 8 ? ", …" : "") + ", of \(byteCount) bytes: --part N reads another")
        }
        if !rest.isEmpty {
            words.append(
                "\(rest.count) bytes at the file's end, from offset \(rest.lowerBound), are no save and are not read")
        }
        return words.isEmpty ? nil : words.joined(separator: "; ")
    }
}
