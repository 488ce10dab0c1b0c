package import CairnBase
package import CairnTensor

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
