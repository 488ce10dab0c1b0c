package import CairnKeeper

extension GroupMember {
    /// Removes objects from this host's table.
    package mutating func removeHere(_ job: KeeperTable.JobName, _ keys: [String]) {
        access.change { table in for key in keys { table.remove(key, of: job) } }
        noteChange()
    }

    /// The saves for a status, the newest of a job last.
    package func saves(of user: UInt32?) -> [KeeperStatus.Group.Save] {
        steps.filter { user == nil || $0.key.job.user == user }.map { step, state in
            let complete = peers.indices.filter { peer in
                peer == own ? state.isComplete : isAvailable(peer) && progress(of: step, at: peer) == .complete
            }.count
            // Before it is complete everywhere, parity may not cover anything yet.
            let left = protected.contains(step) ? layout.parityCount - (layout.memberCount - complete) : 0
            var problem = state.failure.map { "\($0)" } ?? ""
            if problem.isEmpty, let peer = others.first(where: { progress(of: step, at: $0) == .failed }) {
                problem = "member \(peer) cannot hold its part"
            }
            return KeeperStatus.Group.Save(
                user: Int(step.job.user), job: step.job.name, step: step.step, completeMembers: complete, lossesLeft: left,
                parityByteCount: state.parityByteCount, rebuiltByteCount: state.rebuiltByteCount, problem: problem)
        }.sorted { ($0.user, $0.job, $0.step) < ($1.user, $1.job, $1.step) }
    }
}
