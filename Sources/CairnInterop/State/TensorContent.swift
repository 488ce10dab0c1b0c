package import CairnBase
package import CairnCheckpoint
package import CairnTensor

/// The elements of one tensor, wherever they are.
package protocol TensorContent: Sendable {
    /// The type of the elements.
    var scalarType: ScalarType { get }
    /// The tensor's shape.
    var shape: Shape { get }

    /// Fills `destination`, which has the right size, with a region that lies inside.
    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError)
}

/// Elements that know whether checksums stand beside them.
package protocol ChecksummedContent: TensorContent {
    /// Whether every read compares a checksum.
    var hasChecksums: Bool { get }
}

extension TensorContent {
    /// Whether every read of the elements compares a checksum, as far as they know.
    package var isChecked: Bool { (self as? any ChecksummedContent)?.hasChecksums ?? false }
}

extension FileTensor: TensorContent {}

/// A tensor that is in memory already.
package struct HeldTensor: TensorContent {
    let tensor: Tensor
    package var scalarType: ScalarType { tensor.scalarType }
    package var shape: Shape { tensor.shape }

    package init(tensor: Tensor) { self.tensor = tensor }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try RegionCopy.copy(
            tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }
}

/// A box of a tensor as a tensor of its own.
struct ContentWindow: TensorContent {
    let content: any TensorContent
    let region: Region
    var scalarType: ScalarType { content.scalarType }
    var shape: Shape { region.shape }

    func read(_ inner: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let offsets = zip(inner.offsets, region.offsets).map { $0 + $1 }
        try content.read(Region(offsets: offsets, shape: inner.shape), into: &destination)
    }
}

/// The tensors of a checkpoint by name.
package struct TensorTable: Sendable {
    let source: String
    /// Sorted by the bytes of the names.
    package let descriptions: [TensorDescription]
    private let contents: [any TensorContent]

    /// - Parameter entries: Names, each once, with what they stand for and what they are tied to.
    package init(_ entries: [(name: String, content: any TensorContent, tiedTo: String?)], source: String) {
        let sorted = entries.sorted { ExactString($0.name) < ExactString($1.name) }
        self.source = source
        descriptions = sorted.map {
            TensorDescription(
                name: $0.name, scalarType: $0.content.scalarType, shape: $0.content.shape, tiedTo: $0.tiedTo)
        }
        contents = sorted.map(\.content)
    }

    /// - Throws: ``CairnError/Code/malformed`` when two things have one name.
    init(checking entries: [(name: String, content: any TensorContent, tiedTo: String?)], source: String)
        throws(CairnError)
    {
        self.init(entries, source: source)
        for (first, second) in zip(descriptions, descriptions.dropFirst())
        where ExactString(first.name) == ExactString(second.name) {
            throw CairnError(.malformed, "two tensors have one name", .init(file: source, tensor: first.name))
        }
    }

    package func content(_ name: String) throws(CairnError) -> any TensorContent {
        guard let position = descriptions.position(of: name) else {
            throw CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
        }
        return contents[position]
    }

    /// Reads a region, checked.
    package func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let content = try content(name)
        guard region.isInside(content.shape),
            content.scalarType.byteCount(elementCount: region.elementCount) == destination.byteCount
        else {
            throw CairnError(
                .mismatch, "the region does not fit the tensor or the destination",
                .init(
                    file: source, tensor: name, expected: "inside \(content.scalarType)\(content.shape)",
                    found: "\(region) into \(destination.byteCount) bytes"))
        }
        guard region.elementCount > 0 else { return }
        do throws(CairnError) {
            try content.read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }
}
