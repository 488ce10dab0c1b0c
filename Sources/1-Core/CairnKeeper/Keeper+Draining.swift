public import CairnBase
package import CairnCheckpoint

extension Keeper {
    /// What became of a job's newest checkpoint.
    public struct Drained: Sendable {
        public var job: String
        /// The step that is in the store now; `nil` if the job had none.
        public var result: Result<Int?, any Error>
    }

    /// Copies the newest complete checkpoint of every job, verified on the way, to the stores of these names in a folder: those of
    /// other users to `USER-JOB`.
    ///
    /// What is there already is left alone, and a damaged checkpoint is passed over for an older one.
    public func drain(to folder: String) throws(CairnError) -> [Drained] {
        status.jobs.map { job in
            let isOwn = job.user == Self.ownUser
            let target = CheckpointStore(path: folder + "/" + (isOwn ? job.name : "\(job.user)-\(job.name)"))
            return Drained(
                job: job.name,
                result: Result {
                    let storage = try KeeperStorage(observing: job.name, of: UInt32(exactly: job.user), at: path)
                    return try CheckpointStore(storage: storage, name: "keeper").replicateNewest(to: target)
                })
        }
    }
}

extension CheckpointStore {
    /// Copies the newest checkpoint that is whole.
    ///
    /// - Returns: Its step; `nil` if there is none.
    /// - Throws: What is wrong with the newest one, if none is whole; what the target throws.
    package func replicateNewest(to target: CheckpointStore) throws -> Int? {
        var first: CairnError?
        for step in try steps().reversed() {
            // What other hosts do not give may be given of an older one; what the target throws is thrown.
            if let trouble = unreachable(step) {
                first = first ?? trouble
                continue
            }
            do {
                try replicate(step: step, to: target)
                return step
            } catch let error as CairnError where error.code.isUnusable {
                first = first ?? error
            }
        }
        if let first { throw first }
        return nil
    }

    /// What keeps the files of a checkpoint from being read although nothing is known to be wrong with them.
    private func unreachable(_ step: Int) -> CairnError? {
        do throws(CairnError) {
            return try open(step: step).verify(deep: false).damages.map(\.error).first { !$0.code.isUnusable }
        } catch {
            return error.code.isUnusable ? nil : error
        }
    }
}
