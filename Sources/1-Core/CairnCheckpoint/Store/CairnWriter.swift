import CairnBase
import CairnStorage
import CairnTensor

/// Writes a checkpoint of a store from a stream of tensors: what ``copyCheckpoint(from:to:bufferByteCount:strict:progress:)``
/// writes to when the target is Cairn's own format. One rank; memory bounded by the caller's buffer and, where the save is
/// compressed, a few chunks.
public final class CairnWriter: TensorStreamWriter {
    private let session: SaveSession
    private var appender: RankFileAppender?
    /// What the one rank has alone.
    private var rankValues: [NamedValue] = []
    package var stream = TensorStream()
    package let destination: String

    /// Starts a checkpoint of `step` in `store`.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` when there is one and the options do not allow to replace it.
    public init(store: CheckpointStore, step: Int, options: SaveOptions = SaveOptions()) throws {
        destination = store.storage.location(of: StepName.prefix(step))
        session = try store.beginSave(step: step, rankCount: 1, options: options)
    }

    deinit { discard() }

    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        try tensors.requireWrittenTies(in: destination)
        try session.setGlobal(
            values: values, ties: tensors.compactMap { tensor in tensor.tiedTo.map { (tensor.name, $0) } })
        let fragments = tensors.filter { $0.tiedTo == nil }.map {
            FragmentRequest(
                name: $0.name, scalarType: $0.scalarType, globalShape: $0.shape, region: Region(whole: $0.shape),
                codec: session.compression.codec(ofStreamed: $0.byteCount))
        }
        appender = try RankFileAppender(session, rank: 0, fragments: fragments, values: rankValues, compressesAside: true)
        return .init(tensors: tensors, notes: StateNode.losses(of: structure, in: .flat))
    }

    /// One rank's values stay one rank's; those of several have no ranks here to belong to.
    public func carry(_ rankValues: [RankValues]) throws -> Bool {
        guard let only = rankValues.first, only.rankCount == 1 else { return false }
        self.rankValues = only.values
        return true
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws { try appender?.append(bytes, to: item) }

    package func close() throws {
        try appender?.finish()
        try session.commit()
    }

    public var closingNotes: [String] { session.setAside.map { ["\($0.warning)"] } ?? [] }

    package func abandon() {
        appender?.discard()
        session.cancel()
    }
}
