import CMPICalls
import CairnBase
import Synchronization

/// The messages of this process that are on their way, each with the copy of its bytes that MPI reads.
final class PendingSends: Sendable {
    /// `@unchecked Sendable`: only the thread that took it out of the list, or holds the list's lock, touches the memory.
    private struct Send: @unchecked Sendable {
        let request: UnsafeMutableRawPointer
        let bytes: UnsafeMutableRawPointer
    }

    private let sends = Mutex<[Send]>([])

    /// Begins to send a copy of `piece`, and releases what has arrived.
    func start(_ piece: UnsafeRawBufferPointer, communicator: Int32, to rank: Int, tag: Int, from ownRank: Int)
        throws(CairnError)
    {
        _ = try collect(rank: ownRank)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(1, piece.count), alignment: 64)
        if let base = piece.baseAddress { bytes.copyMemory(from: base, byteCount: piece.count) }
        var request: UnsafeMutableRawPointer?
        do throws(CairnError) {
            try MPILibrary.check("MPI_Isend", rank: ownRank) {
                cairn_mpi_send_start(communicator, bytes, Int32(piece.count), Int32(rank), Int32(tag), &request)
            }
        } catch {
            bytes.deallocate()
            throw error
        }
        guard let request else { return bytes.deallocate() }
        let send = Send(request: request, bytes: bytes)
        sends.withLock { $0.append(send) }
    }

    /// Releases what has arrived; how many messages are still on their way.
    func collect(rank: Int) throws(CairnError) -> Int {
        try sends.withLock { (sends) throws(CairnError) in
            var open: [Send] = []
            for send in sends {
                var isDone: Int32 = 0
                try MPILibrary.check("MPI_Test", rank: rank) { cairn_mpi_send_test(send.request, &isDone) }
                if isDone != 0 { send.bytes.deallocate() } else { open.append(send) }
            }
            sends = open
            return open.count
        }
    }
}
