public import CairnBase
import CairnLayout
public import CairnStorage
public import CairnTensor
import Synchronization

/// A committed checkpoint in Cairn's own format.
///
/// Opening reads the manifest alone; rank files are opened, and their headers verified, when something in them is read.
public final class CairnReader: LinearReader {
    /// The name of the file that commits a checkpoint.
    package static let manifestName = "manifest.json"

    public let format = "cairn"
    public let source: String
    /// What the manifest says and where it says the elements are.
    public let index: CheckpointIndex
    private let storage: any Storage
    private let prefix: String
    private let opened: Mutex<[Int: RankFile]> = Mutex([:])

    /// What the checkpoint says of itself.
    public var manifest: Manifest { index.manifest }
    public var tensors: [TensorDescription] { index.tensors }
    public var values: [NamedValue] { manifest.values }

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `step-00000400/`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/notFound`` when there is no manifest, and what a damaged manifest throws.
    public convenience init(_ storage: any Storage, prefix: String, source: String) throws(CairnError) {
        let bytes = try storage.readAll(prefix + Self.manifestName, limit: Manifest.maximumByteCount)
        try self.init(storage, prefix: prefix, source: source, manifest: bytes)
    }

    /// Opens a checkpoint whose manifest has been read.
    init(_ storage: any Storage, prefix: String, source: String, manifest bytes: [UInt8]) throws(CairnError) {
        let key = prefix + Self.manifestName
        index = try CheckpointIndex(Manifest(parsing: bytes, file: storage.location(of: key)), source: source)
        self.storage = storage
        self.prefix = prefix
        self.source = source
    }

    public func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let tensor = try stored(name)
        guard region.isInside(tensor.shape),
            tensor.scalarType.byteCount(elementCount: region.elementCount) == destination.byteCount
        else {
            throw CairnError(
                .mismatch, "the region does not fit the tensor or the destination",
                .init(file: source, tensor: name, expected: "\(tensor.scalarType)\(tensor.shape)",
                    found: "\(region) into \(destination.byteCount) bytes"))
        }
        for fragment in try fragments(of: name, intersecting: region) {
            guard let common = fragment.region.intersection(region) else { continue }
            let (file, held) = try find(fragment, of: tensor)
            if common == region {
                try file.read(held, region: common.relative(to: fragment.region.offsets), into: &destination)
            } else {
                try readPiece(common, file, held, tensor, region, into: &destination)
            }
        }
    }

    package func runByteCount(_ name: String) throws(CairnError) -> Int? {
        let tensor = try stored(name)
        // Before memory is taken for what a manifest claims, the files must have it.
        for fragment in try fragments(of: name, intersecting: nil) {
            let (file, held) = try find(fragment, of: tensor)
            try file.proveExpansion(of: held)
        }
        return try only(of: name)?.0.metadata.chunkByteCount
    }

    package func read(
        _ name: String, at offset: Int, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard let (file, held) = try only(of: name) else {
            throw CairnError(.invalidArgument, "the tensor is not one run of bytes", .init(file: source, tensor: name))
        }
        try file.read(held, at: offset, into: &destination)
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
    public func values(ofRank rank: Int) throws(CairnError) -> [NamedValue] {
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
            let own = try rankValues(ofRank: rank)
            if !own.values.isEmpty { all.append(own) }
        }
        return all
    }

    /// The values that only `rank` had, with its place among the ranks.
    package func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues {
        RankValues(
            rank: rank, rankCount: manifest.files.count, mesh: manifest.layouts.first?.mesh,
            values: try values(ofRank: rank))
    }

    /// Part of a region that spans fragments: read by itself, then copied to its place.
    private func readPiece(
        _ common: Region, _ file: RankFile, _ held: StoredFragment, _ tensor: Manifest.StoredTensor, _ region: Region,
        into destination: inout MutableRawSpan
    ) throws(CairnError) {
        // In slabs, so that the extra memory stays bounded whatever the tensor's size.
        let piece = TensorDescription(name: tensor.name, scalarType: tensor.scalarType, shape: common.shape)
        for slab in SlabSequence(of: piece, byteLimit: 4 << 20) {
            let part = try Region(offsets: zip(slab.offsets, common.offsets).map { $0 + $1 }, shape: slab.shape)
            var bytes = try Tensor(zeros: tensor.scalarType, part.shape)
            var span = bytes.mutableBytes
            try file.read(held, region: part.relative(to: held.region.offsets), into: &span)
            try RegionCopy.copy(
                tensor.scalarType, from: bytes.bytes, of: part.shape, region: Region(whole: part.shape),
                into: &destination, of: region.shape, region: part.relative(to: region.offsets))
        }
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
                .init(file: file.location, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                    found: "\(held.scalarType)\(held.globalShape)"))
        }
        return (file, held)
    }

    /// The rank file, opened once.
    func rankFile(_ rank: Int) throws(CairnError) -> RankFile {
        if let file = opened.withLock({ $0[rank] }) { return file }
        let expected = manifest.files[rank]
        let location = storage.location(of: prefix + expected.name)
        let file: RankFile
        do throws(CairnError) {
            file = try RankFile.open(storage.open(prefix + expected.name), location: location, expected: expected)
            guard file.metadata.saveID == manifest.saveID, file.metadata.step == manifest.step,
                file.metadata.rank == expected.rank, file.metadata.rankCount == manifest.files.count
            else {
                throw CairnError(
                    .mismatch, "the file belongs to another save",
                    .init(expected: "save \(manifest.saveID), step \(manifest.step), rank \(expected.rank)",
                        found: "save \(file.metadata.saveID), step \(file.metadata.step), rank \(file.metadata.rank)"))
            }
        } catch {
            throw error.located(at: location).adding(.init(rank: expected.rank))
        }
        return opened.withLock { opened in
            if let other = opened[rank] { return other }
            opened[rank] = file
            return file
        }
    }
}
