public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A file of `torch.save`, of TorchScript or of `torch.export`, or a bare pickle.
///
/// The pickle in it is read as data and never executed. Nested dictionaries and lists are flattened: a tensor's name
/// is its path joined by dots, values form the tree that is left without the tensors. Tensors that share a storage and
/// are the same view of it are tied. NumPy arrays are tensors too. Sparse, quantized and nested tensors become the
/// tensors that they consist of, and values that describe them. What is not understood is shown as text and listed under
/// ``omissions``; pickles that would run code are refused.
///
/// Checksums, which PyTorch writes and does not look at, are verified whenever the whole of a storage has been read. In
/// files of before version 1.6 there are none.
public final class TorchReader: FragmentedReader, VerifiableReader, OmittingReader {
    public let format = "torch"
    public let source: String
    public let values: [NamedValue]
    public let omissions: [String]
    public var tensors: [TensorDescription] { table.descriptions }
    public let structure: StateNode?

    private let table: TensorTable
    private let storages: [ZipRecord]
    private let file: String

    /// Opens the file of the name `key`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/incomplete`` when the file was cut short or lacks a storage,
    ///   ``CairnError/Code/malformed`` when it contradicts itself, ``CairnError/Code/unsupported`` for what is refused.
    public init(storage: any Storage, file key: String, source: String? = nil) throws(CairnError) {
        let contents = try TorchContents(FileWindow(storage, key))
        let name = source ?? storage.place(of: key)
        self.source = name
        file = key
        storages = contents.storages
        omissions = contents.omissions
        let names = try StateNames.names(of: contents.tensors.map(\.path), fallback: "tensor", file: name)
        var first: [TorchView: String] = [:]
        var entries: [(name: String, content: any TensorContent, tiedTo: String?)] = []
        for (name, tensor) in zip(names, contents.tensors) {
            var tiedTo: String?
            if let view = tensor.view, view.shape.elementCount > 0 {
                tiedTo = first[view]
                if tiedTo == nil { first[view] = name }
            }
            entries.append((name, tensor.content, tiedTo))
        }
        table = TensorTable(entries, source: name)
        structure = contents.structure(naming: names)
        var leaves = StateLeaves(file: name)
        for (path, value) in contents.values { try leaves.add(value, at: path) }
        values = try leaves.values()
    }

    /// Opens the file at a path.
    public convenience init(path: String) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        try self.init(storage: storage, file: key, source: path)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func storedFragments(of name: String) throws(CairnError) -> [(region: Region, file: String)] {
        [(Region(whole: try table.content(name).shape), file)]
    }

    public func verify(deep: Bool, progress: (Int) throws -> Void) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = 1
        guard deep else { return report }
        try report.add(storages, progress: progress)
        guard storages.isEmpty else { return report }
        for tensor in tensors where tensor.tiedTo == nil {
            try report.addUnsummed(table.content(tensor.name), named: tensor.name, progress: progress)
        }
        return report
    }
}
