// `cairn-train-mpi`: ranks are the processes of a job that mpirun started.
import CairnBase
import CairnMPI
import CairnTrainCommands

TrainProgram.main(
    RankLauncher(ranksAreProcesses: true) { ranks, body in
        try MPICommunicator.run { world in
            if let ranks, ranks != world.size {
                throw CairnError(
                    .invalidArgument, "the job has another number of processes than the run has ranks",
                    .init(expected: "\(ranks)", found: "\(world.size)", advice: "start it with mpirun -n \(ranks)"))
            }
            try body(world)
        }
    })
