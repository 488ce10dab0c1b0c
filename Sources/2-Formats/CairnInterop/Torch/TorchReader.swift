public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A file of `torch.save`, of TorchScript or of `torch.export`, a bare pickle, or several files that make up one state: the
/// shards of an index, or what each rank of a training saved of distributed tensors.
///
/// The pickle in it is read as data and never executed. Nested dictionaries and lists are flattened: a tensor's name
/// is its path joined by dots, values form the tree that is left without the tensors. Tensors that share a storage and
/// are the same view of it are tied. NumPy arrays are tensors too. Sparse, quantized and nested tensors become the
/// tensors that they consist of, and values that describe them. Modules that were pickled whole are read as their
/// `state_dict()`. What is not understood is shown as text and listed under ``skippedEntries``; pickles that would run code
/// are refused.
///
/// Checksums, which PyTorch writes and does not look at, are verified whenever the whole of a storage has been read. In
/// files of before version 1.6 there are none.
public final class TorchReader: CheckpointReader {
    public let format = "torch"
    public let source: String
    public let values: [NamedValue]
    public let skippedEntries: [String]
    public let skippedTensorCount: Int
    public var tensors: [TensorDescription] { table.descriptions }
    public let structure: StateNode?
    /// What of ``skippedEntries`` is about the files, not about what is in them: other saves, and bytes that are not a save.
    package let remarks: [String]
    /// The files that were read, by their keys.
    package let files: [String]

    private let table: TensorTable
    private let storages: [ZipRecord]
    /// The file of a tensor, where there are several.
    private let tensorFiles: [ExactString: String]

    /// Opens the file of the name `key`.
    ///
    /// - Parameters:
    ///   - source: What to call it in messages.
    ///   - part: Which of several saves in the file, counted from 1. Without it the first is read.
    /// - Throws: ``CairnError/Code/incomplete`` when the file was cut short or lacks a storage,
    ///   ``CairnError/Code/malformed`` when it contradicts itself, ``CairnError/Code/unsupported`` for what is refused,
    ///   ``CairnError/Code/notFound`` when there are not so many saves.
    public convenience init(
        storage: any Storage, file key: String, source: String? = nil, part: Int? = nil
    ) throws(CairnError) {
        let name = source ?? storage.location(of: key)
        try self.init(Self.contents(of: FileWindow(storage, key), part: part), files: [key], source: name)
    }

    /// - Parameter files: The keys of the files that the contents are of.
    init(_ contents: TorchContents, files: [String], source name: String) throws(CairnError) {
        source = name
        self.files = files
        storages = contents.storages
        remarks = contents.remarks
        skippedEntries = contents.skippedEntries + contents.remarks
        skippedTensorCount = contents.skippedTensorCount
        let names = try StateNames.names(of: contents.tensors.map(\.path), fallback: "tensor", file: name)
        var first: [TorchView: String] = [:]
        var entries: [(name: String, content: any TensorView, tiedTo: String?)] = []
        var tensorFiles: [ExactString: String] = [:]
        for (name, tensor) in zip(names, contents.tensors) {
            if let part = tensor.part { try Self.check(part, tensor.assembled, name: name, file: source) }
            if let file = tensor.file { tensorFiles[ExactString(name)] = file }
            var tiedTo: String?
            if let view = tensor.view, view.shape.elementCount > 0 {
                tiedTo = first[view]
                if tiedTo == nil { first[view] = name }
            }
            entries.append((name, tensor.content, tiedTo))
        }
        self.tensorFiles = tensorFiles
        table = TensorTable(entries, source: name)
        structure = contents.structure(naming: names)
        var leaves = StateLeaves(file: name)
        for (path, value) in contents.values { try leaves.add(value, at: path) }
        values = try leaves.values()
    }

    /// One save of a file, with a note of what else is in it.
    static func contents(of file: FileWindow, part: Int?) throws(CairnError) -> TorchContents {
        if let part { return try contents(of: file, numbered: part) }
        let beginning = try file.bytes(in: 0..<min(4, file.byteCount))
        // The end of an archive is looked for first, since it is read from there.
        let isZip = beginning.elementsEqual([0x50, 0x4B, 3, 4])
        let length = isZip ? try TorchSaves.zipLength(of: file) : file.byteCount
        var contents = try TorchContents(FileWindow(file, offset: 0, byteCount: length), isWhole: false)
        guard contents.end < file.byteCount else { return contents }
        if let note = try TorchSaves(in: file).note(after: 1, byteCount: file.byteCount) {
            contents.remarks.append(note)
        }
        return contents
    }

    private static func contents(of file: FileWindow, numbered part: Int) throws(CairnError) -> TorchContents {
        let saves = try TorchSaves(in: file)
        guard part >= 1, part <= saves.ranges.count else {
            throw CairnError(
                .notFound, "the file does not hold so many saves",
                .init(
                    file: file.key, expected: "part 1" + (saves.ranges.count > 1 ? " to \(saves.ranges.count)" : ""),
                    found: "part \(part)"))
        }
        let range = saves.ranges[part - 1]
        do throws(CairnError) {
            var contents = try TorchContents(FileWindow(file, offset: range.lowerBound, byteCount: range.count))
            if let note = saves.note(after: part, byteCount: file.byteCount) { contents.remarks.append(note) }
            return contents
        } catch {
            throw error.moved(by: range.lowerBound)
        }
    }

    /// A part of a tensor is not a tensor.
    private static func check(
        _ part: RankPart, _ assembled: AssembledTensor?, name: String, file: String
    ) throws(CairnError) {
        if let reduction = part.reduction {
            throw CairnError(
                .unsupported, "the ranks hold partial values of the tensor that are yet to be reduced (\(reduction))",
                .init(
                    file: file, tensor: name, found: part.division,
                    advice: "save it with full_tensor(), or redistributed to shards"))
        }
        guard let assembled else { return }
        do throws(CairnError) {
            try FragmentCoverage.check(assembled.pieces.map(\.region), of: part.shape)
        } catch {
            let held = part.pieces.map { "\($0.whole)" }.prefix(3).joined(separator: ", ")
            throw CairnError(
                .unsupported, "the file holds one rank's part of the tensor, not the tensor",
                .init(
                    file: file, tensor: name, expected: "all of \(part.scalarType)\(part.shape)",
                    found: (held.isEmpty ? "no elements" : held) + " (\(part.division))",
                    advice: "open the directory that has the files of all ranks"))
        }
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try table.content(name).storedPieces(in: region, file: tensorFiles[ExactString(name)] ?? files[0])
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = files.count
        report.notes = remarks
        guard deep else { return report }
        try report.add(storages, progress: progress)
        guard storages.isEmpty else { return report }
        var buffer: [UInt8] = []
        for tensor in tensors where tensor.tiedTo == nil {
            try report.addUnsummed(table.content(tensor.name), named: tensor.name, buffer: &buffer, progress: progress)
        }
        return report
    }
}

extension TorchReader {
    /// Opens what is at a path: a file, an index of shards (a name that ends with `.index.json`), or a directory with
    /// either, with shards that are named as such, or with the files of all ranks.
    ///
    /// - Parameter part: Which of several saves in a file, counted from 1.
    /// - Throws: As ``init(storage:file:source:part:)``, ``CairnError/Code/notFound`` when a directory holds none of
    ///   that.
    public convenience init(path: String, part: Int? = nil) throws(CairnError) {
        try self.init(path: path, part: part, reading: nil)
    }

    convenience init(path: String, part: Int?, reading: ReadingStorage?) throws(CairnError) {
        let directory = LocalStorage(root: path)
        if let names = try Self.names(in: directory) {
            try self.init(
                directory: path, directory.read(through: reading),
                names: directory.names(names, readingThrough: reading), part: part)
            return
        }
        let (local, key) = try LocalStorage.locate(path)
        let storage = local.read(through: reading)
        if key.hasSuffix(".index.json") {
            try Self.refuse(part, of: path)
            try self.init(storage: storage, index: key, source: path)
        } else {
            try self.init(storage: storage, file: key, source: path, part: part)
        }
    }

    private convenience init(
        directory path: String, _ storage: any Storage, names: [String], part: Int?
    ) throws(CairnError) {
        switch TorchDirectory(names) {
        case .file(let name): try self.init(storage: storage, file: name, source: path, part: part)
        case .index(let name):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, index: name, source: path)
        case .shards(let names):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, shards: names, source: path)
        case .ranks(let names):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, ranks: names, source: path)
        case nil:
            throw CairnError(
                .notFound, "the directory holds no file that is known to be a model of PyTorch",
                .init(file: path, expected: "pytorch_model.bin or an index of shards", advice: "name the file to open"))
        }
    }

    private static func refuse(_ part: Int?, of path: String) throws(CairnError) {
        guard part != nil else { return }
        throw CairnError(
            .invalidArgument, "a part can be chosen of one file, not of a state in several", .init(file: path))
    }

    /// The names in a storage's root, sorted; `nil` if that is not a directory or nothing.
    private static func names(in storage: LocalStorage) throws(CairnError) -> [String]? {
        let path = storage.root
        do throws(SystemCallError) {
            guard try storage.fileSystem.status(at: path).kind == .directory else { return nil }
            return try storage.fileSystem.entries(of: path).map(\.name).sorted { ExactString($0) < ExactString($1) }
        } catch {
            if error.isMissing { return nil }
            throw error.explained("list", path)
        }
    }
}

/// The kinds of files that PyTorch has written, by their first bytes.
package enum TorchContainer: Sendable {
    /// `torch.save` since version 1.6, TorchScript, `torch.export`.
    case zip
    /// `torch.save` before version 1.6.
    case legacy
    /// The same before version 0.1.13.
    case tar
    /// Python's `pickle`, nothing beside it.
    case pickle

    /// - Parameter bytes: The first 512 bytes, or all of a shorter file. What is none of the others is taken for a zip
    ///   archive, whose errors say what is missing.
    package init(beginning bytes: [UInt8]) {
        switch true {
        case LegacyTorchFile.isBeginning(bytes): self = .legacy
        case Self.isPickle(bytes): self = .pickle
        case Self.isTar(bytes): self = .tar
        default: self = .zip
        }
    }

    /// Whether a file that begins with these bytes is one of them, and no other kind of zip archive is meant.
    package static func isTorch(_ bytes: [UInt8]) -> Bool {
        if case .zip = TorchContainer(beginning: bytes) { return bytes.starts(with: [0x50, 0x4B, 3, 4]) }
        return true
    }

    /// Whether a pickle is of joblib, which names its own class at the beginning and puts bytes of arrays between its parts.
    package static func isJoblib(_ bytes: [UInt8]) -> Bool {
        bytes.first == 0x80 && bytes.firstRange(of: Array("joblib.numpy_pickle".utf8)) != nil
    }

    /// A pickle of protocol 2 and later says so.
    private static func isPickle(_ bytes: [UInt8]) -> Bool {
        if bytes.count > 2, bytes[0] == 0x80, (2...5).contains(bytes[1]) { return true }
        return PickleInterpreter.isPlausible(bytes)
    }

    /// The mark of POSIX archives, and the first of the files that PyTorch put into its own.
    private static func isTar(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= 262, bytes[257..<262].elementsEqual("ustar".utf8) else { return false }
        let name = bytes.prefix { $0 != 0 }
        return ["sys_info", "./sys_info", "pickle", "storages", "tensors"].contains { name.elementsEqual($0.utf8) }
    }
}
