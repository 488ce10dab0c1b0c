package import CairnBase
package import CairnTensor

/// A tensor of which there are copies that must have the same bits: each read reads them all.
package struct EqualView: TensorView {
    /// A copy and what an error says of it when it differs.
    package struct Copy: Sendable {
        fileprivate let view: any TensorView
        fileprivate let context: CairnError.Context

        package init(_ view: any TensorView, _ context: CairnError.Context) {
            self.view = view
            self.context = context
        }
    }

    private let base: any TensorView
    private let copies: [Copy]
    private let message: String
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameter message: What an error says when a copy differs.
    /// - Throws: ``CairnError/Code/mismatch`` when a copy has another type or shape.
    package init(_ base: any TensorView, copies: [Copy], message: String) throws(CairnError) {
        for copy in copies where copy.view.shape != base.shape || copy.view.scalarType != base.scalarType {
            var context = copy.context
            context.expected = "\(base.scalarType)\(base.shape)"
            context.found = "\(copy.view.scalarType)\(copy.view.shape)"
            throw CairnError(.mismatch, message, context)
        }
        self.base = base
        self.copies = copies
        self.message = message
    }

    /// A tensor that every rank holds whole.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when types or shapes differ, or there are none.
    package init(copies: [any TensorView]) throws(CairnError) {
        guard let first = copies.first else { throw CairnError(.mismatch, "no rank has a copy of a tensor") }
        try self.init(
            first, copies: copies.enumerated().dropFirst().map { .init($0.element, .init(rank: $0.offset)) },
            message: "the ranks' copies of a tensor differ")
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        for copy in copies {
            let found = try copy.view.bytes(of: region)
            let isEqual = destination.withUnsafeMutableBytes { expected in
                found.withUnsafeBytes { $0.elementsEqual(UnsafeRawBufferPointer(expected)) }
            }
            guard isEqual else {
                var context = copy.context
                context.found = "other bits in \(region)"
                throw CairnError(.mismatch, message, context)
            }
        }
    }
}
