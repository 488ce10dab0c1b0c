public import CairnBase
public import CairnCheckpoint
import CairnInterop
public import CairnStorage
public import CairnTensor

/// An HDF5 file, as h5py and Keras write them.
///
/// A tensor's name is the path of its dataset without the first slash: `layers/dense/vars/0`. Attributes, text and
/// records are values at their paths. What is not understood is left out and listed under ``skippedEntries``.
///
/// HDF5 never opens a path: neither external links nor external elements nor virtual datasets make it read another
/// file.
public final class HDF5Reader: CheckpointReader {
    public let format: String
    public let source: String
    public let values: [NamedValue]
    public let skippedEntries: [String]
    public var tensors: [TensorDescription] { table.descriptions }

    /// What is damaged and was left out.
    let damages: [CairnError]
    private let table: TensorTable
    private let file: String

    /// Opens the file of the name `key`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/malformed`` when it is damaged, as one that was cut short,
    ///   ``CairnError/Code/incomplete`` when elements lie beyond its end.
    public convenience init(storage: any Storage, file key: String, source: String? = nil) throws(CairnError) {
        let location = source ?? storage.location(of: key)
        try self.init(FileWindow(storage, key), format: "hdf5", file: key, source: location)
    }

    /// Opens the file at a path.
    public convenience init(path: String) throws(CairnError) { try self.init(path: path, reading: nil) }

    convenience init(path: String, reading: ReadingStorage?) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        try self.init(storage: storage.read(through: reading), file: key, source: path)
    }

    /// - Parameter further: Values that are not in the file itself.
    init(
        _ bytes: any StorageFile, format: String, file key: String, source: String, further: [NamedValue] = []
    ) throws(CairnError) {
        let contents: HDF5Contents
        var leaves = StateLeaves(file: source)
        var skippedEntries: [String] = []
        do throws(CairnError) {
            contents = try HDF5Contents(HDF5File(bytes))
            for value in further { try leaves.add(value.value, at: [StateKey(value.name)]) }
            for (path, value) in contents.values {
                do throws(CairnError) {
                    try leaves.add(value, at: path)
                } catch {
                    let name = path.map(\.text).joined(separator: "/")
                    skippedEntries.append("the value \(name) is left out: another one has its place")
                }
            }
        } catch {
            var located = error
            located.context.file = source
            throw located
        }
        self.format = format
        self.source = source
        file = key
        table = TensorTable(contents.tensors, source: source)
        values = try leaves.values()
        skippedEntries += [KerasQuantization.note(table.descriptions)].compactMap { $0 }
        self.skippedEntries = contents.skippedEntries + skippedEntries
        damages = contents.damages.map { damage in
            var located = damage
            located.context.file = source
            return located
        }
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try table.content(name).storedPieces(in: region, file: file)
    }

    /// Whether a tensor's elements have checksums.
    func hasChecksums(_ name: String) throws(CairnError) -> Bool { try table.content(name).hasChecksums }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = 1
        report.damages = damages.map { VerificationReport.Damage(error: $0) }
        guard deep else { return report }
        for tensor in tensors where tensor.tiedTo == nil {
            let before = report.byteCount
            try report.addReading(tensor, of: self, progress: progress)
            if try !table.content(tensor.name).hasChecksums { report.unsummedByteCount += report.byteCount - before }
        }
        return report
    }
}

extension VerificationReport {
    /// Reads all of a tensor, by which everything is noticed that can be; continues after damage with the next one.
    mutating func addReading(
        _ tensor: TensorDescription, of reader: any CheckpointReader, progress: (Int) throws -> Void
    ) throws {
        var buffer: [UInt8] = []
        chunkCount += 1
        for slab in SlabSequence(of: tensor, byteLimit: 4 << 20) {
            let byteCount = tensor.scalarType.byteCount(elementCount: slab.elementCount) ?? 0
            if buffer.count < byteCount { buffer = [UInt8](repeating: 0, count: byteCount) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes.part(0..<byteCount)
            do throws(CairnError) {
                try reader.read(tensor.name, region: slab, into: &part)
            } catch {
                damages.append(Damage(error: error))
                return
            }
            self.byteCount += byteCount
            try progress(byteCount)
        }
    }
}
