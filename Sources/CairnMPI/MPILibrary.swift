import CMPICalls
import CairnBase

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
