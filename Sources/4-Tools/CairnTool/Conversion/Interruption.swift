import CairnBase
import CairnCheckpoint
import CairnTensor
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Turns SIGINT and SIGTERM into an error of the work in progress, so that it can clean up.
enum Interruption {
    private static let isRequested = Atomic<Bool>(false)

    /// From now on the first signal only asks the work to stop; a second one of the same kind ends the process.
    static func watch() {
        // Touched here, so that the handler never is the one that initializes it.
        isRequested.store(false, ordering: .relaxed)
        // A parent that starts processes from a worker thread hands down that thread's blocked signals.
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM] {
            sigaddset(&signals, number)
            var action = sigaction()
            #if canImport(Glibc)
            action.__sigaction_handler.sa_handler = { _ in Interruption.request() }
            #else
            action.__sigaction_u.__sa_handler = { _ in Interruption.request() }
            #endif
            action.sa_flags = SA_RESTART | Int32(bitPattern: UInt32(SA_RESETHAND))
            sigaction(number, &action, nil)
        }
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }

    private static func request() { isRequested.store(true, ordering: .relaxed) }

    /// - Throws: ``CairnError/Code/cancelled`` after a signal.
    static func check() throws(CairnError) {
        guard isRequested.load(ordering: .relaxed) else { return }
        throw CairnError(.cancelled, "interrupted; what is left is not a checkpoint")
    }
}

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
