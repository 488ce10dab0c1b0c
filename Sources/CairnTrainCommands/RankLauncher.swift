package import CairnCommunication

/// How the ranks of a run are started: what the executables differ in.
package struct RankLauncher {
    /// Whether each rank is a process of a job that has been started already, so that the job says how many there are.
    package let ranksAreProcesses: Bool
    /// Calls the body on so many ranks; `nil` is as many as the job has.
    package let launch: (Int?, @escaping @Sendable (any Communicator) throws -> Void) throws -> Void

    package init(
        ranksAreProcesses: Bool,
        launch: @escaping (Int?, @escaping @Sendable (any Communicator) throws -> Void) throws -> Void
    ) {
        self.ranksAreProcesses = ranksAreProcesses
        self.launch = launch
    }

    /// Each rank a thread of this process.
    package static var threads: RankLauncher {
        RankLauncher(ranksAreProcesses: false) { ranks, body in
            _ = try ThreadCommunicator.run(ranks: ranks ?? 1, body: body)
        }
    }
}
