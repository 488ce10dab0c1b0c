import CMPICalls
public import CairnBase
import CairnCommunication

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

extension MPICommunicator {
    /// Starts MPI, runs `body` with all ranks of the job, and ends MPI.
    ///
    /// For once in a process, from a program that `mpirun` started; without it the job is one rank. When `body` throws,
    /// the rank fails: see ``fail(_:)``.
    ///
    /// - Throws: ``CairnError`` of code `unsupported` where MPI cannot be used from several threads, `invalidArgument`
    ///   where it was started or ended before, `inputOutput` where a call of MPI fails.
    public static func run<Value>(_ body: (MPICommunicator) throws -> Value) throws -> Value {
        let world = try start()
        do {
            let value = try body(world)
            try world.finish()
            return value
        } catch {
            world.fail(CairnError(reasonOf: error))
            throw error
        }
    }

    /// Prints one line with the rank and the reason to the standard error, and ends every process of the job.
    ///
    /// This call does not return, and so no other rank throws: MPI has no way to wake a rank that waits in a call.
    public func fail(_ error: CairnError) {
        let failure = RankFailure(rank: jobRank, reason: error).error
        let line = "cairn: \(failure)\n"
        // In one write, so that lines of several ranks stay whole; the job is ending whether or not it is read.
        _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
        cairn_mpi_abort(1)
    }

    private static func start() throws(CairnError) -> MPICommunicator {
        guard cairn_mpi_state() == 0 else {
            throw CairnError(.invalidArgument, "MPI was started before, and can be started once only")
        }
        var hasThreads: Int32 = 0
        try MPILibrary.check("MPI_Init_thread", rank: nil) { cairn_mpi_start(&hasThreads) }
        var rank: Int32 = 0
        var size: Int32 = 0
        try MPILibrary.check("MPI_Comm_rank", rank: nil) { cairn_mpi_rank(cairn_mpi_world(), &rank) }
        try MPILibrary.check("MPI_Comm_size", rank: Int(rank)) { cairn_mpi_size(cairn_mpi_world(), &size) }
        guard hasThreads != 0 else {
            throw CairnError(
                .unsupported, "this MPI cannot be called from several threads", CairnError.Context(rank: Int(rank)))
        }
        var handles: (Int32, Int32) = (0, 0)
        // Groups of our own, so that nothing meets the traffic of other users of MPI in the process.
        try MPILibrary.check("MPI_Comm_split", rank: Int(rank)) {
            cairn_mpi_split(cairn_mpi_world(), 0, rank, &handles.0)
        }
        try MPILibrary.check("MPI_Comm_split", rank: Int(rank)) {
            cairn_mpi_split(cairn_mpi_world(), 0, rank, &handles.1)
        }
        return MPICommunicator(
            calls: handles.0, mail: handles.1, rank: Int(rank), members: Array(0..<Int(size)),
            pending: PendingSends(), limits: MPILimits())
    }

    /// Waits until what was sent has been received, and ends MPI.
    private func finish() throws(CairnError) {
        try barrier()
        // All bodies have returned, so nothing is received any more; what was is known to the sender in a moment.
        let deadline = ContinuousClock.now + .seconds(5)
        while try pending.collect(rank: jobRank) > 0 {
            guard ContinuousClock.now < deadline else {
                throw CairnError.mismatchedCalls("rank \(jobRank) has ended, but messages it sent were never received")
            }
            sched_yield()
        }
        try MPILibrary.check("MPI_Finalize", rank: jobRank) { cairn_mpi_finish() }
    }
}

/// What the calls of MPI have in common: errors as ``CairnError``, and how much goes through one call.
enum MPILibrary {
    /// Makes a call of MPI, and turns its error code into an error that names `rank`.
    static func check(_ name: String, rank: Int?, _ call: () -> Int32) throws(CairnError) {
        let code = call()
        guard code != 0 else { return }
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1_024) { buffer in
            cairn_mpi_error_text(code, buffer.baseAddress, 1_024)
            return buffer.baseAddress.map { String(cString: $0) } ?? ""
        }
        throw CairnError(.inputOutput, "\(name) failed: \(text)", CairnError.Context(rank: rank))
    }
}

/// How much goes through one call of MPI and into memory of our own. Every rank of a group has the same limits.
package struct MPILimits: Sendable {
    /// Bytes in one call of MPI, whose counts are 32 bits wide. Below 2^31.
    package var pieceByteCount: Int
    /// Bytes of terms that are kept to be summed.
    package var termByteCount: Int

    package init(pieceByteCount: Int = 1 << 30, termByteCount: Int = 16 << 20) {
        self.pieceByteCount = min(max(1, pieceByteCount), 1 << 30)
        self.termByteCount = max(1, termByteCount)
    }
}
