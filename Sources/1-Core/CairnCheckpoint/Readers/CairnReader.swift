public import CairnBase
import CairnLayout
package import CairnStorage
public import CairnTensor
import Synchronization

/// A committed checkpoint in Cairn's own format.
///
/// Opening reads the manifest alone; rank files are opened, and their headers verified, when something in them is read.
public final class CairnReader: CheckpointReader {
    /// The name of the file that commits a checkpoint.
    package static let manifestName = "manifest.json"

    public let format = "cairn"
    public let source: String
    /// What the checkpoint says of itself.
    public let manifest: Manifest
    /// Where the manifest says that the elements are.
    package let index: CheckpointIndex
    private let storage: any Storage
    private let prefix: String
    private let opened: Mutex<[Int: RankFile]> = Mutex([:])

    public var tensors: [TensorDescription] { index.tensors }
    public var values: [NamedValue] { manifest.values }
    public var identity: CheckpointIdentity? {
        CheckpointIdentity(
            step: manifest.step, saveID: manifest.saveID, rankCount: manifest.files.count, meshes: manifest.meshes)
    }

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `step-00000400/`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/notFound`` when there is no manifest, and what a damaged manifest throws.
    package convenience init(_ storage: any Storage, prefix: String, source: String) throws(CairnError) {
        let bytes = try storage.readAll(prefix + Self.manifestName, limit: Manifest.maximumByteCount)
        try self.init(storage, prefix: prefix, source: source, manifest: bytes)
    }

    /// Opens a checkpoint whose manifest has been read.
    init(_ storage: any Storage, prefix: String, source: String, manifest bytes: [UInt8]) throws(CairnError) {
        let key = prefix + Self.manifestName
        manifest = try Manifest(parsing: bytes, file: storage.location(of: key))
        index = try CheckpointIndex(manifest, source: source)
        self.storage = storage
        self.prefix = prefix
        self.source = source
    }

    public func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let tensor = try stored(name)
        do throws(CairnError) {
            try region.check(inside: tensor.shape, of: tensor.scalarType, filling: destination.byteCount)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
        for fragment in try fragments(of: name, intersecting: region) {
            guard let common = fragment.region.intersection(region) else { continue }
            let (file, held) = try find(fragment, of: tensor)
            try FragmentView(file: file, fragment: held)
                .read(common.relative(to: held.region.offsets), as: common, of: region, into: &destination)
        }
    }

    public func requireStored(_ name: String) throws(CairnError) {
        let tensor = try stored(name)
        for fragment in try fragments(of: name, intersecting: nil) {
            let (file, held) = try find(fragment, of: tensor)
            try file.proveExpansion(of: held)
        }
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try index.storedPieces(of: name, in: region)
    }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? {
        guard let (file, held) = try only(of: name) else { return nil }
        return try file.mapped(held)
    }

    /// The fragment that is the whole tensor, if there is one.
    private func only(of name: String) throws(CairnError) -> (RankFile, StoredFragment)? {
        let tensor = try stored(name)
        let fragments = try fragments(of: name, intersecting: nil)
        guard fragments.count == 1, let fragment = fragments.first, fragment.region.covers(tensor.shape) else {
            return nil
        }
        return try find(fragment, of: tensor)
    }

    /// Where a tensor's elements are: those of its fragments that have any in `region`, or all.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func fragments(
        of name: String, intersecting region: Region?
    ) throws(CairnError) -> [Manifest.Fragment] {
        try index.fragments(of: name, intersecting: region)
    }

    /// The bytes that one checksum covers, as the first rank's file says.
    ///
    /// - Throws: What opening that file throws.
    package func chunkByteCount() throws(CairnError) -> Int { try rankFile(0).metadata.chunkByteCount }

    /// The values that only `rank` had: its generator, its place in the data.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when no such rank wrote this checkpoint.
    package func values(ofRank rank: Int) throws(CairnError) -> [NamedValue] {
        guard manifest.files.indices.contains(rank) else {
            throw CairnError(
                .notFound, "no such rank wrote this checkpoint",
                .init(file: source, rank: rank, expected: "0..<\(manifest.files.count)"))
        }
        return try rankFile(rank).metadata.values
    }

    public func rankValues() throws(CairnError) -> [RankValues] {
        var all: [RankValues] = []
        for rank in manifest.files.indices {
            if let own = try rankValues(ofRank: rank), !own.values.isEmpty { all.append(own) }
        }
        return all
    }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        RankValues(
            rank: rank, rankCount: manifest.files.count, mesh: manifest.layouts.first?.mesh,
            values: try values(ofRank: rank))
    }

    /// The tensor that a name or a tie stands for.
    func stored(_ name: String) throws(CairnError) -> Manifest.StoredTensor { try index.stored(name) }

    /// The fragment in its file. What the manifest and the file say of it must agree.
    func find(
        _ fragment: Manifest.Fragment, of tensor: Manifest.StoredTensor
    ) throws(CairnError) -> (RankFile, StoredFragment) {
        let file = try rankFile(fragment.file)
        guard let held = file.fragment(of: tensor.name, region: fragment.region) else {
            throw CairnError(
                .incomplete, "the file lacks a fragment that the manifest says it has",
                .init(file: file.location, tensor: tensor.name, expected: "\(fragment.region)"))
        }
        guard held.scalarType == tensor.scalarType, held.globalShape == tensor.shape else {
            throw CairnError(
                .mismatch, "the manifest and the file describe the tensor differently",
                .init(
                    file: file.location, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                    found: "\(held.scalarType)\(held.globalShape)"))
        }
        return (file, held)
    }

    /// A file by its number, opened once: a rank's, or one of an earlier save (``Manifest/file(_:)``).
    func rankFile(_ number: Int) throws(CairnError) -> RankFile {
        if let file = opened.withLock({ $0[number] }) { return file }
        guard let expected = manifest.file(number) else {
            throw CairnError(.malformed, "a fragment is in a file that is not listed", .init(file: source, found: "\(number)"))
        }
        let key = number < manifest.files.count ? prefix + expected.file.name : storePrefix + expected.key
        let location = storage.location(of: key)
        let file: RankFile
        do throws(CairnError) {
            file = try RankFile.open(storage.open(key), location: location, expected: expected.file)
            guard file.metadata.saveID == expected.saveID, file.metadata.step == expected.step,
                file.metadata.rank == expected.file.rank, file.metadata.rankCount == expected.rankCount
            else {
                throw CairnError(
                    .mismatch, "the file belongs to another save",
                    .init(
                        expected: "save \(expected.saveID), step \(expected.step), rank \(expected.file.rank)",
                        found: "save \(file.metadata.saveID), step \(file.metadata.step), rank \(file.metadata.rank)"))
            }
        } catch {
            throw error.located(at: location).adding(.init(rank: expected.file.rank))
        }
        return opened.withLock { opened in
            if let other = opened[number] { return other }
            opened[number] = file
            return file
        }
    }

    /// What stands before the step's folder in the keys of the storage.
    private var storePrefix: String {
        let folder = StepName.prefix(manifest.step)
        return prefix.hasSuffix(folder) ? String(prefix.dropLast(folder.count)) : ""
    }
}

/// A fragment in its file as a tensor of its own.
private struct FragmentView: TensorView {
    let file: RankFile
    let fragment: StoredFragment
    var scalarType: ScalarType { fragment.scalarType }
    var shape: Shape { fragment.region.shape }
    var hasChecksums: Bool { true }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try file.read(fragment, region: region, into: &destination)
    }
}
