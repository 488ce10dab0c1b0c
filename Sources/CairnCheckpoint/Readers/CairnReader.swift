public import CairnBase
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
    public let tensors: [TensorDescription]
    /// What the checkpoint says of itself.
    public let manifest: Manifest

    /// Where the fragments are that follow from layouts.
    let layoutIndex: LayoutIndex?
    private let storage: any Storage
    private let prefix: String
    private let opened: Mutex<[Int: RankFile]> = Mutex([:])

    public var values: [NamedValue] { manifest.values }

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `step-00000400/`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/notFound`` when there is no manifest, and what a damaged manifest throws.
    public init(_ storage: any Storage, prefix: String, source: String) throws(CairnError) {
        let key = prefix + Self.manifestName
        let bytes = try storage.readAll(key, limit: Manifest.maximumByteCount)
        manifest = try Manifest(parsing: bytes, file: storage.place(of: key))
        layoutIndex = try manifest.layoutIndex()
        self.storage = storage
        self.prefix = prefix
        self.source = source
        var descriptions = manifest.tensors.map {
            TensorDescription(name: $0.name, scalarType: $0.scalarType, shape: $0.shape)
        }
        for tie in manifest.ties {
            guard let index = Self.index(of: tie.target, in: manifest.tensors, named: \.name) else { continue }
            let target = manifest.tensors[index]
            descriptions.append(TensorDescription(
                name: tie.name, scalarType: target.scalarType, shape: target.shape, tiedTo: target.name))
        }
        tensors = descriptions.sorted { ExactString($0.name) < ExactString($1.name) }
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
        // Before anybody takes memory for what a manifest claims, the files must have it.
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
        let index = try storedIndex(name)
        if let fragments = layoutIndex?.fragments(ofTensor: index, intersecting: region) { return fragments }
        let fragments = manifest.tensors[index].fragments
        guard let region else { return fragments }
        return fragments.filter { $0.region.intersection(region) != nil }
    }

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
    func stored(_ name: String) throws(CairnError) -> Manifest.StoredTensor {
        manifest.tensors[try storedIndex(name)]
    }

    private func storedIndex(_ name: String) throws(CairnError) -> Int {
        let tie = Self.index(of: name, in: manifest.ties, named: \.name)
        let target = tie.map { manifest.ties[$0].target } ?? name
        guard let index = Self.index(of: target, in: manifest.tensors, named: \.name) else {
            throw CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
        }
        return index
    }

    /// Where a name is in a list that is sorted by names.
    private static func index<Element>(
        of name: String, in list: [Element], named nameOf: (Element) -> String
    ) -> Int? {
        let wanted = ExactString(name)
        var low = 0, high = list.count
        while low < high {
            let middle = (low + high) / 2
            if ExactString(nameOf(list[middle])) < wanted { low = middle + 1 } else { high = middle }
        }
        return low < list.count && ExactString(nameOf(list[low])) == wanted ? low : nil
    }

    /// The fragment in its file. What the manifest and the file say of it must agree.
    func find(
        _ fragment: Manifest.Fragment, of tensor: Manifest.StoredTensor
    ) throws(CairnError) -> (RankFile, StoredFragment) {
        let file = try rankFile(fragment.file)
        guard let held = file.fragment(of: tensor.name, region: fragment.region) else {
            throw CairnError(
                .incomplete, "the file lacks a fragment that the manifest says it has",
                .init(file: file.place, tensor: tensor.name, expected: "\(fragment.region)"))
        }
        guard held.scalarType == tensor.scalarType, held.globalShape == tensor.shape else {
            throw CairnError(
                .mismatch, "the manifest and the file describe the tensor differently",
                .init(file: file.place, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                    found: "\(held.scalarType)\(held.globalShape)"))
        }
        return (file, held)
    }

    /// The rank file, opened once.
    func rankFile(_ index: Int) throws(CairnError) -> RankFile {
        if let file = opened.withLock({ $0[index] }) { return file }
        let expected = manifest.files[index]
        let place = storage.place(of: prefix + expected.name)
        let file: RankFile
        do throws(CairnError) {
            file = try RankFile.open(storage.open(prefix + expected.name), place: place, expected: expected)
            guard file.metadata.saveID == manifest.saveID, file.metadata.step == manifest.step,
                file.metadata.rank == expected.rank, file.metadata.rankCount == manifest.files.count
            else {
                throw CairnError(
                    .mismatch, "the file belongs to another save",
                    .init(expected: "save \(manifest.saveID), step \(manifest.step), rank \(expected.rank)",
                        found: "save \(file.metadata.saveID), step \(file.metadata.step), rank \(file.metadata.rank)"))
            }
        } catch {
            throw error.located(at: place).adding(.init(rank: expected.rank))
        }
        return opened.withLock { opened in
            if let other = opened[index] { return other }
            opened[index] = file
            return file
        }
    }
}
