package import CairnBase
package import CairnTensor
import Synchronization

/// A fragment whose bytes a save holds until they are written.
package final class HeldFragment: Sendable {
    private enum Content: Sendable {
        case tensor(Tensor)
        /// What a region of a tensor holds, under another shape of as many elements.
        case region(Tensor, Region, Shape)
        case foreign(any ForeignBytes)
    }

    /// What the file is to hold.
    package let request: FragmentRequest
    package let byteCount: Int
    private let content: Mutex<Content?>

    private init(_ request: FragmentRequest, byteCount: Int, _ content: sending Content) {
        self.request = request
        self.byteCount = byteCount
        self.content = Mutex(content)
    }

    /// A whole tensor.
    package convenience init(_ tensor: Tensor, name: String) {
        self.init(
            FragmentRequest(
                name: name, scalarType: tensor.scalarType, globalShape: tensor.shape, region: Region(whole: tensor.shape)),
            byteCount: tensor.byteCount, .tensor(tensor))
    }

    /// A fragment that the caller has cut.
    package convenience init(_ fragment: TensorFragment) {
        self.init(
            FragmentRequest(
                name: fragment.name, scalarType: fragment.tensor.scalarType, globalShape: fragment.globalShape,
                region: fragment.region),
            byteCount: fragment.tensor.byteCount, .tensor(fragment.tensor))
    }

    /// What stands at `local` in a rank's part of a tensor, and at `region` in the whole one. It is copied together when it
    /// is written, if it is not contiguous.
    package convenience init(
        name: String, globalShape: Shape, region: Region, of tensor: Tensor, local: Region
    ) throws(CairnError) {
        self.init(
            FragmentRequest(name: name, scalarType: tensor.scalarType, globalShape: globalShape, region: region),
            byteCount: try Tensor.byteCount(tensor.scalarType, region.shape), .region(tensor, local, region.shape))
    }

    /// Memory that is not copy-on-write.
    package convenience init(_ bytes: some ForeignBytes, name: String, _ scalarType: ScalarType, _ shape: Shape, byteCount: Int) {
        self.init(
            FragmentRequest(name: name, scalarType: scalarType, globalShape: shape, region: Region(whole: shape)),
            byteCount: byteCount, .foreign(bytes))
    }

    /// Calls `body` with some of the bytes, as they were when the save began.
    ///
    /// - Throws: ``CairnError/Code/cancelled`` when they have been released.
    package func withBytes<Result>(_ range: Range<Int>, _ body: (RawSpan) throws -> Result) throws -> Result {
        switch try current() {
        case .tensor(let tensor): return try body(tensor.bytes.extracting(range))
        case .foreign(let bytes): return try bytes.withBytes(range, body)
        case .region: throw CairnError(.invalidArgument, "a fragment has not been copied together")
        }
    }

    /// The tensor of the caller that the bytes are in, and which part of it they are; `nil` for memory that can be changed
    /// without a trace, and when they have been released or copied together.
    var origin: (tensor: Tensor, region: Region?)? {
        content.withLock { content in
            switch content {
            case .tensor(let tensor)?: (tensor, nil)
            case .region(let tensor, let region, _)?: (tensor, region)
            case .foreign?, nil: nil
            }
        }
    }

    /// Releases the bytes. A reader of some keeps them until it is done.
    package func release() {
        let old = content.withLock { content in
            defer { content = nil }
            return content
        }
        if case .foreign(let bytes)? = old { bytes.end() }
    }

    private func current() throws -> Content {
        try content.withLock { content in
            guard let present = content else { throw CairnError(.cancelled, "the snapshot was given up") }
            guard case .region(let tensor, let local, let shape) = present else { return present }
            let copied = Content.tensor(try tensor.slice(local).reshaped(shape))
            content = copied
            return copied
        }
    }
}

/// Bytes of memory that is not copy-on-write, as they were when a snapshot was taken.
package protocol ForeignBytes: Sendable {
    /// Calls `body` with some of them.
    func withBytes<Result>(_ range: Range<Int>, _ body: (RawSpan) throws -> Result) throws -> Result

    /// Nothing more of them is needed.
    func end()
}
