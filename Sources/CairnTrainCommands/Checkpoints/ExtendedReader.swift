package import Cairn

/// A checkpoint with some tensors more, and other values: a view that is read where its base is.
package struct ExtendedReader: CheckpointView {
    /// A tensor that is added.
    struct Addition: Sendable {
        var tensor: Tensor
        /// The name of an addition or a tensor of the base whose bytes it shares.
        var tiedTo: String?
    }

    package let tensors: [TensorDescription]
    package let values: [NamedValue]
    package let base: any CheckpointReader
    private let additions: [String: Addition]


    /// - Parameters:
    ///   - additions: under names that the base does not have.
    ///   - values: in place of those of the base.
    init(
        _ base: any CheckpointReader, adding additions: [String: Addition] = [:], values: [String: Value]
    ) {
        self.base = base
        self.additions = additions
        let added = additions.map { name, addition in
            TensorDescription(
                name: name, scalarType: addition.tensor.scalarType, shape: addition.tensor.shape,
                tiedTo: addition.tiedTo)
        }
        tensors = (base.tensors + added).sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        self.values = values.map { NamedValue(name: $0.key, value: $0.value) }
            .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    package func baseName(of name: String) throws(CairnError) -> String? { additions[name] == nil ? name : nil }

    package func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard let tensor = additions[name]?.tensor else {
            return try base.read(name, region: region, into: &destination)
        }
        do throws(CairnError) {
            try HeldView(tensor).read(region, into: &destination)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }
}
