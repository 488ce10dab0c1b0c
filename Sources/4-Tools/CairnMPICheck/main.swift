// Runs the conformance checks of a communicator over MPI. `Scripts/check-mpi` starts it under mpirun.
//
//     cairn-mpi-check                the checks, with the limits of MPI and with small ones
//     cairn-mpi-check fail           rank 1 fails while the others wait
//     cairn-mpi-check speed          how long an all-reduce of 16 MiB takes
import CairnBase
import CairnCommunication
import CairnCommunicationTesting
import CairnMPI

let mode = CommandLine.arguments.dropFirst().first ?? "check"

try MPICommunicator.run { world in
    switch mode {
    case "check":
        try CommunicatorConformance.run(world, seed: 7)
        // Every path that cuts what is too large for one call of MPI.
        let small = MPILimits(pieceByteCount: 1_000, termByteCount: 4_096)
        try CommunicatorConformance.run(world.split(color: 0, key: world.rank, limits: small), seed: 8)
        try world.barrier()
        if world.rank == 0 { print("OK: \(world.size) ranks over MPI conform") }
    case "fail":
        if world.rank == min(1, world.size - 1) {
            throw CairnError(.noSpace, "no room for the tensor", CairnError.Context(file: "step-00000400"))
        }
        try world.barrier()
    case "speed":
        var values = [Float](repeating: 1, count: 4 << 20)
        for _ in 0..<3 {
            try world.barrier()
            let duration = try ContinuousClock().measure { try world.allReduceSum(&values) }
            if world.rank == 0 { print("all-reduce of 16 MiB over \(world.size) ranks: \(duration)") }
        }
    default:
        throw CairnError(.invalidArgument, "unknown mode \(mode)", CairnError.Context(expected: "check, fail or speed"))
    }
}
