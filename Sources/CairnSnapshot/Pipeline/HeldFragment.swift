import CairnBase
import CairnCheckpoint
import CairnTensor
import Synchronization

/// A fragment whose bytes a snapshot holds until they are drained.
final class HeldFragment: Sendable {
    private enum Content: Sendable {
        case tensor(Tensor)
        /// What a region of a tensor holds, under another shape of as many elements.
        case region(Tensor, Region, Shape)
        case foreign(ForeignHold)
    }

    /// What the file is to hold.
    let request: FragmentRequest
    let byteCount: Int
    private let content: Mutex<Content?>

    private init(_ request: FragmentRequest, byteCount: Int, _ content: sending Content) {
        self.request = request
        self.byteCount = byteCount
        self.content = Mutex(content)
    }

    /// A whole tensor.
    convenience init(_ tensor: Tensor, name: String) {
        self.init(
            FragmentRequest(
                name: name, scalarType: tensor.scalarType, globalShape: tensor.shape, region: Region(whole: tensor.shape)),
            byteCount: tensor.byteCount, .tensor(tensor))
    }

    /// What stands at `local` in a rank's part of a tensor, and at `region` in the whole one. It is copied together when it
    /// is drained, if it is not contiguous.
    convenience init(
        name: String, globalShape: Shape, region: Region, of tensor: Tensor, local: Region
    ) throws(CairnError) {
        self.init(
            FragmentRequest(name: name, scalarType: tensor.scalarType, globalShape: globalShape, region: region),
            byteCount: try Tensor.byteCount(tensor.scalarType, region.shape), .region(tensor, local, region.shape))
    }

    /// Memory that is not copy-on-write.
    convenience init(_ hold: ForeignHold, name: String) {
        let array = hold.array
        self.init(
            FragmentRequest(
                name: name, scalarType: array.scalarType, globalShape: array.shape, region: Region(whole: array.shape)),
            byteCount: array.byteCount, .foreign(hold))
    }

    /// Calls `body` with some of the bytes, as they were when the snapshot was taken.
    ///
    /// - Throws: ``CairnError/Code/cancelled`` when they have been released.
    func withBytes<Result>(_ range: Range<Int>, _ body: (RawSpan) throws -> Result) throws -> Result {
        switch try current() {
        case .tensor(let tensor): return try body(tensor.bytes.extracting(range))
        case .foreign(let hold): return try hold.withBytes(range, body)
        case .region: throw CairnError(.invalidArgument, "a fragment has not been copied together")
        }
    }

    /// Releases the bytes. A reader of some keeps them until it is done.
    func letGo() {
        let old = content.withLock { content in
            defer { content = nil }
            return content
        }
        if case .foreign(let hold)? = old { hold.end() }
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
