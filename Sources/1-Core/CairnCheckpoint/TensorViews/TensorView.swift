package import CairnBase
package import CairnTensor

/// One tensor that is read by region, wherever its elements are: in a file, in memory, or in other tensors.
///
/// Every transformation of a tensor is one: what is read through it is made of what it is a view of, region by region, and
/// nothing is read before it is asked for.
package protocol TensorView: Sendable {
    /// The type of the elements.
    var scalarType: ScalarType { get }
    /// The tensor's shape.
    var shape: Shape { get }
    /// Whether every read compares a checksum.
    var hasChecksums: Bool { get }

    /// The pieces in which it is stored, or those that hold some of a region.
    ///
    /// - Parameter file: The file of pieces that do not name one.
    func storedPieces(in region: Region?, file: String) -> [StoredPiece]

    /// Fills `destination` with a region, row-major.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside or `destination` has another size,
    ///   ``CairnError/Code/unsupported`` when a run of packed elements does not begin and end at a byte, and what is thrown
    ///   where the elements are.
    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError)
}

extension TensorView {
    package var hasChecksums: Bool { false }

    package func storedPieces(in region: Region?, file: String) -> [StoredPiece] {
        [StoredPiece(region: Region(whole: shape), file: file, scalarType: scalarType)]
    }

    /// The bytes of a region.
    package func byteCount(of region: Region) throws(CairnError) -> Int {
        guard let count = scalarType.byteCount(elementCount: region.elementCount) else {
            throw CairnError(
                .unsupported, "a region of packed elements must begin and end at whole bytes",
                .init(found: "\(region) of \(scalarType)\(shape)"))
        }
        return count
    }

    /// Reads a region into memory of its own.
    package func bytes(of region: Region) throws(CairnError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: try byteCount(of: region))
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(region, into: &raw)
        return bytes
    }

    /// Checks what a caller asks for.
    package func check(_ region: Region, destinationByteCount: Int) throws(CairnError) {
        try region.check(inside: shape, of: scalarType, filling: destinationByteCount)
    }

    /// Cuts a region into parts that follow each other in the destination, each of at most so many bytes where its shape allows.
    package func slabs(of region: Region, byteLimit: Int) -> some Sequence<Region> {
        SlabSequence(of: TensorDescription(name: "", scalarType: scalarType, shape: region.shape), byteLimit: byteLimit)
            .lazy.map { slab in
                // A region that lies outside stays outside, so that reading it fails.
                Region(
                    trustedOffsets: zip(slab.offsets, region.offsets).map { $0.adding(clamped: $1) }, shape: slab.shape)
            }
    }
}

extension TensorView {
    /// Reads a box of this tensor into its place in a region of another, whose elements have the same type.
    ///
    /// Straight if the box is one run of the region's memory, and else in slabs, so that the extra memory stays bounded.
    ///
    /// - Parameters:
    ///   - source: The box here.
    ///   - target: The box there: as many elements, in the same row-major order.
    ///   - region: What `destination` holds of the other tensor.
    package func read(
        _ source: Region, as target: Region, of region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard target.elementCount > 0 else { return }
        let local = target.relative(to: region.offsets)
        var runs = RegionRuns(of: local, in: region.shape)
        if runs.count == 1, let first = runs.next(), let begin = scalarType.byteCount(elementCount: first) {
            let count = try byteCount(of: source)
            var part = destination.part(begin..<begin + count)
            return try read(source, into: &part)
        }
        guard source.shape == target.shape else {
            let block = try bytes(of: source)
            return try RegionCopy.copy(
                scalarType, from: block.span.bytes, of: target.shape, region: Region(whole: target.shape),
                into: &destination, of: region.shape, region: local)
        }
        for slab in slabs(of: source, byteLimit: mappedBlockByteCount) {
            let block = try bytes(of: slab)
            try RegionCopy.copy(
                scalarType, from: block.span.bytes, of: slab.shape, region: Region(whole: slab.shape),
                into: &destination, of: region.shape, region: slab.relative(to: source.offsets).shifted(by: local.offsets))
        }
    }
}

/// How much of a box is read at once that does not go straight to its place.
private let mappedBlockByteCount = 4 << 20

/// The tensors of a checkpoint by name.
package struct TensorTable: Sendable {
    /// A tensor, its name and the one that it is tied to.
    package typealias Entry = (name: String, content: any TensorView, tiedTo: String?)

    private let source: String
    /// Sorted by the bytes of the names.
    package let descriptions: [TensorDescription]
    private let views: [any TensorView]

    /// - Parameter entries: Names, each once, with what they stand for and what they are tied to.
    package init(_ entries: [Entry], source: String) {
        let sorted = entries.sorted { ExactString($0.name) < ExactString($1.name) }
        self.source = source
        descriptions = sorted.map {
            TensorDescription(
                name: $0.name, scalarType: $0.content.scalarType, shape: $0.content.shape, tiedTo: $0.tiedTo)
        }
        views = sorted.map(\.content)
    }

    /// - Throws: ``CairnError/Code/malformed`` when two things have one name.
    package init(checking entries: [Entry], source: String) throws(CairnError) {
        self.init(entries, source: source)
        for (first, second) in zip(descriptions, descriptions.dropFirst())
        where ExactString(first.name) == ExactString(second.name) {
            throw CairnError(.malformed, "two tensors have one name", .init(file: source, tensor: first.name))
        }
    }

    /// What a name stands for.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func content(_ name: String) throws(CairnError) -> any TensorView {
        views[try descriptions.requiredPosition(of: name, in: source)]
    }

    /// Reads a region, checked.
    package func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let content = try content(name)
        do throws(CairnError) {
            try content.check(region, destinationByteCount: destination.byteCount)
            guard region.elementCount > 0 else { return }
            try content.read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }
}
