import CairnBase
import CairnCheckpoint
import CairnTensor

/// Passes everything on to another writer, unless the user has asked to stop.
///
/// The last look comes before ``finish()``: after it the checkpoint is whole and stays.
final class InterruptibleWriter: CheckpointWriter {
    private let writer: any CheckpointWriter

    init(_ writer: any CheckpointWriter) { self.writer = writer }

    func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try Interruption.check()
        return try writer.begin(tensors: tensors, values: values)
    }

    func begin(tensors: [TensorDescription], values: [NamedValue], structure: StateNode?) throws -> [String] {
        try Interruption.check()
        return try writer.begin(tensors: tensors, values: values, structure: structure)
    }

    func carry(_ rankValues: [RankValues]) throws -> Bool { try writer.carry(rankValues) }

    func continueInterrupted(as identity: () throws -> String) throws { try writer.continueInterrupted(as: identity) }

    var resumedTensorCount: Int { writer.resumedTensorCount }

    var closingNotes: [String] { writer.closingNotes }

    func append(_ bytes: RawSpan) throws {
        try Interruption.check()
        try writer.append(bytes)
    }

    func finish() throws {
        try Interruption.check()
        try writer.finish()
    }

    func discard() { writer.discard() }
}
