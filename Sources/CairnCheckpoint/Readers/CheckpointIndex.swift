public import CairnBase
package import CairnLayout
package import CairnTensor
import Synchronization

/// What a manifest says of a checkpoint's tensors and of where their elements are: all that planning a read takes.
public struct CheckpointIndex: Sendable {
    /// The manifest.
    public let manifest: Manifest
    /// What to call the checkpoint in messages.
    public let source: String
    /// Every logical tensor, ties included, sorted by the bytes of its name.
    public let tensors: [TensorDescription]
    /// Where the fragments are that follow from layouts.
    private let layouts: LayoutIndex?
    /// Where the fragments are that are listed, of tensors with many.
    private let listed = ListedFragments()

    /// - Throws: What a manifest with layouts that do not fit throws.
    init(_ manifest: Manifest, source: String) throws(CairnError) {
        self.manifest = manifest
        self.source = source
        layouts = try manifest.layoutIndex()
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

    /// The index of a checkpoint that ranks would save under these layouts, without any file: what planning and
    /// simulations read from.
    ///
    /// - Throws: What layouts that do not fit throw.
    package init(planned tensors: [PlacedTensor], source: String) throws(CairnError) {
        try self.init(Manifest(planned: tensors), source: source)
    }

    /// The description of a tensor.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    public func description(of name: String) throws(CairnError) -> TensorDescription {
        tensors[try tensors.requiredPosition(of: name, in: source)]
    }

    /// Where a tensor's elements are: those of its fragments that have any in `region`, or all.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func fragments(
        of name: String, intersecting region: Region?
    ) throws(CairnError) -> [Manifest.Fragment] {
        let index = try storedIndex(name)
        if let fragments = layouts?.fragments(ofTensor: index, intersecting: region) { return fragments }
        let fragments = manifest.tensors[index].fragments
        guard let region else { return fragments }
        if fragments.count < ListedFragments.leastCount { return fragments.filter { $0.region.overlaps(region) } }
        return listed.index(of: index, fragments).positions(meeting: region).map { fragments[$0] }
    }

    /// The same with the names of the files.
    package func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece] {
        let type = try stored(name).scalarType
        return try fragments(of: name, intersecting: region).map {
            StoredPiece(region: $0.region, file: manifest.files[$0.file].name, scalarType: type)
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
        let position = list.firstPosition { !(ExactString(nameOf($0)) < wanted) }
        return position < list.count && ExactString(nameOf(list[position])) == wanted ? position : nil
    }
}

/// Indices of the fragments that a manifest lists, made when they are first asked for: a caller that reads a tensor of a
/// million fragments part by part must not go through all of them for each part.
private final class ListedFragments: Sendable {
    /// Fewer fragments are gone through one by one.
    static let leastCount = 16

    private let indices = Mutex<[Int: RegionIndex]>([:])

    func index(of tensor: Int, _ fragments: [Manifest.Fragment]) -> RegionIndex {
        if let known = indices.withLock({ $0[tensor] }) { return known }
        let made = RegionIndex(fragments.map(\.region))
        indices.withLock { $0[tensor] = made }
        return made
    }
}
