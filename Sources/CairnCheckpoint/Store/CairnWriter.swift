import CairnBase
import CairnTensor

/// Writes a checkpoint of a store from a stream of tensors: what ``copyCheckpoint(from:to:bufferByteCount:progress:)``
/// writes to when the target is Cairn's own format. One rank, uncompressed, memory bounded by the caller's buffer.
public final class CairnWriter: CheckpointWriter {
    private let session: SaveSession
    private var appender: RankFileAppender?
    private var tensorCount = 0
    /// What the one rank has alone.
    private var rankValues: [(name: String, value: Value)] = []
    /// The tensor that is being written, tied ones not counted.
    private var current = 0

    /// Starts a checkpoint of `step` in `store`.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` when there is one and the options do not allow to replace it.
    public init(store: CheckpointStore, step: Int, options: SaveOptions = SaveOptions()) throws {
        session = try store.beginSave(step: step, rankCount: 1, options: options)
    }

    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try session.setGlobal(
            values: values.map { ($0.name, $0.value) },
            ties: tensors.compactMap { tensor in tensor.tiedTo.map { (tensor.name, $0) } })
        let fragments = tensors.filter { $0.tiedTo == nil }.map {
            FragmentRequest(
                name: $0.name, scalarType: $0.scalarType, globalShape: $0.shape, region: Region(whole: $0.shape))
        }
        tensorCount = fragments.count
        appender = try RankFileAppender(session, rank: 0, fragments: fragments, values: rankValues)
        skipFinished()
        return []
    }

    /// One rank's values stay one rank's; those of several have no ranks here to belong to.
    public func carry(_ rankValues: [RankValues]) throws -> Bool {
        guard let only = rankValues.first, only.rankCount == 1 else { return false }
        self.rankValues = only.values.map { ($0.name, $0.value) }
        return true
    }

    public func append(_ bytes: RawSpan) throws {
        guard let appender, current < tensorCount else {
            throw CairnError(.invalidArgument, "more bytes than were announced")
        }
        try appender.append(bytes, to: current)
        skipFinished()
    }

    public func finish() throws {
        guard let appender else {
            throw CairnError(.incomplete, "the checkpoint ends before every announced byte was written")
        }
        try appender.finish()
        try session.commit()
    }

    public var closingNotes: [String] { session.setAside.map { ["\($0.warning)"] } ?? [] }

    public func discard() {
        appender?.discard()
        session.cancel()
    }

    /// Continues to the next tensor that has bytes to come.
    private func skipFinished() {
        while let appender, current < tensorCount, appender.isComplete(current) { current += 1 }
    }
}
