import CairnBase
public import CairnCheckpoint
import CairnDigest
import CairnTensor
import Synchronization

extension PatchedReader {
    /// Writes the result, comparing every tensor with its digest on the way: what is not exactly the checkpoint that the
    /// delta was made of does not come to be.
    ///
    /// - Parameter progress: Called with the bytes written so far and in all.
    /// - Returns: What the writer's format could not carry over.
    /// - Throws: ``CairnError/Code/mismatch``, naming the tensor, when the base is another one than the delta applies to,
    ///   ``CairnError/Code/corrupted`` when the delta is damaged; the readers' and the writer's errors. The writer has then been
    ///   discarded.
    public func write(
        to writer: any CheckpointWriter, progress: (_ written: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> [String] {
        try copyCheckpoint(from: self, to: verifying(writer), progress: progress)
    }

    /// A writer that passes on what is this checkpoint, and refuses anything else.
    package func verifying(_ writer: any CheckpointWriter) -> any CheckpointWriter { VerifyingWriter(writer, self) }

    /// Reads every tensor and compares it with its digest.
    public func verify(deep: Bool, progress: @escaping @Sendable (Int) throws -> Void) throws -> VerificationReport {
        var report = try base.verify(deep: false, progress: progress)
        report.fileCount += 1
        guard deep else { return report }
        let stored = tensors.filter { $0.tiedTo == nil }.sorted { $0.byteCount > $1.byteCount }
        let found = Mutex<[Int: CairnError]>([:])
        try ThreadPool.shared.forEach(stored.count) { index in
            do {
                let name = stored[index].name
                let digest = try CheckpointDigest.sha256(of: stored[index], in: self, progress: progress)
                if try digest != self.entry(of: name).entry.sha256 { throw try self.explainDigest(of: name, found: digest) }
            } catch let error as CairnError where error.code != .cancelled {
                found.withLock { $0[index] = error }
            }
        }
        report.chunkCount += stored.count
        report.byteCount += stored.totalByteCount
        report.damages += found.withLock { $0 }.sorted { $0.key < $1.key }.map { .init(error: $0.value) }
        return report
    }

    /// Why a tensor is not what it should be: by the base, or by the delta.
    func explainDigest(of name: String, found: String) throws -> CairnError {
        let entry = try entry(of: name).entry
        guard let expected = entry.baseDigest else {
            return CairnError(
                .corrupted, "the elements differ from the delta's digest",
                .init(
                    file: delta.source, tensor: name, expected: entry.sha256, found: found,
                    advice: "take another copy of the delta"))
        }
        let original = try base.description(of: entry.description.name)
        let before = try CheckpointDigest.sha256(of: original, in: base)
        if before != expected {
            // What is below may know better.
            if let below = base as? PatchedReader { return try below.explainDigest(of: original.name, found: before) }
            return CairnError(
                .mismatch, "the delta does not apply to this checkpoint: the tensor has other elements than its base",
                .init(
                    file: base.source, tensor: entry.description.name, expected: "SHA-256 \(expected)", found: before,
                    advice: delta.contents.base.source.map { "\(delta.source) applies to \($0)" }))
        }
        return CairnError(
            .corrupted, "the elements that the delta makes differ from its digest",
            .init(
                file: delta.source, tensor: name, expected: entry.sha256, found: found,
                advice: "take another copy of the delta"))
    }
}

/// Passes on the bytes of a ``PatchedReader``, and compares the digest of each tensor when its last byte comes.
private final class VerifyingWriter: CheckpointWriter {
    private let writer: any CheckpointWriter
    private let patched: PatchedReader
    /// Those that have bytes, in the order in which they come.
    private let tensors: [TensorDescription]
    private var position = 0
    private var byteCount = 0
    private var hash: RunningSHA256?

    init(_ writer: any CheckpointWriter, _ patched: PatchedReader) {
        self.writer = writer
        self.patched = patched
        tensors = patched.tensors.filter { $0.tiedTo == nil && $0.byteCount > 0 }
    }

    var closingNotes: [String] { writer.closingNotes }

    func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try writer.begin(tensors: tensors, values: values)
    }

    func begin(tensors: [TensorDescription], values: [NamedValue], structure: StateNode?) throws -> [String] {
        try writer.begin(tensors: tensors, values: values, structure: structure)
    }

    func carry(_ rankValues: [RankValues]) throws -> Bool { try writer.carry(rankValues) }

    func append(_ bytes: RawSpan) throws {
        var begin = 0
        while begin < bytes.byteCount, position < tensors.count {
            let tensor = tensors[position]
            let count = min(bytes.byteCount - begin, tensor.byteCount - byteCount)
            let hash = try self.hash ?? RunningSHA256()
            self.hash = hash
            try hash.update(bytes.extracting(begin..<begin + count))
            begin += count
            byteCount += count
            guard byteCount == tensor.byteCount else { continue }
            let digest = try hash.digest()
            let expected = try patched.entry(of: tensor.name).entry.sha256
            if digest != expected { throw try patched.explainDigest(of: tensor.name, found: digest) }
            self.hash = nil
            position += 1
            byteCount = 0
        }
        try writer.append(bytes)
    }

    func finish() throws { try writer.finish() }

    func discard() { writer.discard() }
}
