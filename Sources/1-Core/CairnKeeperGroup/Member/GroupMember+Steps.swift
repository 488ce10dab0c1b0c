import CairnBase
import CairnCheckpoint
package import CairnKeeper
import CairnStorage

/// Which saves there are, and what becomes of them.
extension GroupMember {
    private static let greatestManifest = 256 << 20
    private static let droppedCount = 1024

    /// Looks what manifests the table has.
    mutating func refresh() {
        let manifests = access.change { table in
            table.jobs.flatMap { job, objects in
                objects.compactMap { key, object in
                    key == KeeperTable.manifest(beside: key) ? (job: job, key: key, object: object) : nil
                }
            }
        }
        var present: [KeeperTable.JobName: Set<Int>] = [:]
        for (job, key, object) in manifests {
            guard let number = StepName.step(ofKey: key) else { continue }
            present[job, default: []].insert(number)
            let old = known[job]?[number]
            if let old, steps[old]?.modified == object.modified { continue }
            guard object.byteCount <= Self.greatestManifest,
                let bytes = localBytes(job, key, 0..<object.byteCount, modified: object.modified),
                let saved = try? options.manifest(bytes, key)
            else { continue }
            let step = GroupStep(job: job, step: number, saveID: saved.saveID)
            if old == step {
                steps[step]?.modified = object.modified
                continue
            }
            if let old { forget(old) }
            dropped.removeAll { $0 == step }
            known[job, default: [:]][number] = step
            steps[step] = StepState(
                saved, prefix: StepName.prefix(number), modified: object.modified, manifestByteCount: object.byteCount,
                memberCount: layout.memberCount)
            mustTell = true
        }
        for (job, numbers) in known {
            for (number, step) in numbers where present[job]?.contains(number) != true {
                known[job]?[number] = nil
                forget(step)
            }
            if known[job]?.isEmpty == true { known[job] = nil }
        }
        removeLeftBehind()
    }

    /// The save is no longer here: its parity goes, and who still has it is told so.
    private mutating func forget(_ step: GroupStep) {
        guard let state = steps.removeValue(forKey: step) else { return }
        settled.remove(step)
        protected.remove(step)
        deferring.remove(step)
        access.change { table in
            for parity in state.parities { table.release(parity.memory.capacity, of: step.job.user) }
            // Those of a save that was replaced: its manifest is another one's by now.
            for key in state.deferred where state.files[key] != nil { table.remove(key, of: step.job) }
        }
        dropped.append(step)
        if dropped.count > Self.droppedCount { dropped.removeFirst() }
        mustTell = true
    }

    /// Another member says that a save was deleted.
    mutating func dropAsTold(_ step: GroupStep) {
        guard let state = steps[step] else { return }
        let prefix = StepName.prefix(step.step)
        access.change { table in
            // Another save's manifest may have come there.
            let manifest = prefix + CairnReader.manifestName
            if table.jobs[step.job]?[manifest]?.modified == state.modified { table.remove(manifest, of: step.job) }
            for key in state.files.keys { table.remove(key, of: step.job) }
            table.remove(prefix + StepName.timelineName, of: step.job)
        }
        known[step.job]?[step.step] = nil
        forget(step)
    }

    /// Fetches the manifest of a save that another member has.
    mutating func adopt(_ entry: GroupState.Entry, from peer: Int) {
        guard entry.byteCount <= Self.greatestManifest, adopting.insert(entry.step).inserted else { return }
        let key = StepName.prefix(entry.step.step) + CairnReader.manifestName
        let object = KeeperRemoteObject(key: key, byteCount: entry.byteCount, modified: entry.modified, member: peer)
        beginRead(entry.step.job, object, 0..<entry.byteCount, for: .adoption(entry.step, modified: entry.modified))
    }

    /// The manifest has come, or not.
    mutating func adopted(_ step: GroupStep, modified: Int64, _ bytes: [UInt8]?) {
        adopting.remove(step)
        let key = StepName.prefix(step.step) + CairnReader.manifestName
        guard let bytes, !dropped.contains(step), let saved = try? options.manifest(bytes, key), saved.saveID == step.saveID
        else { return }
        if insert(bytes, as: key, of: step.job, modified: modified, isCopy: true) { refresh() }
    }

    /// Puts an object into the table, unless a newer one is there or there is no room.
    private mutating func insert(
        _ bytes: [UInt8], as key: String, of job: KeeperTable.JobName, modified: Int64, isCopy: Bool
    ) -> Bool {
        guard let memory = hold(bytes.count, of: job.user, key) else { return false }
        guard (try? memory.write(bytes, at: 0)) != nil else {
            access.change { $0.release(memory.capacity, of: job.user) }
            return false
        }
        return insert(memory, bytes.count, as: key, of: job, modified: modified, isCopy: isCopy)
    }

    mutating func insert(
        _ memory: KeptMemory, _ byteCount: Int, as key: String, of job: KeeperTable.JobName, modified: Int64, isCopy: Bool
    ) -> Bool {
        access.change { table in
            if (table.jobs[job]?[key]?.modified ?? -1) >= modified || (try? memory.seal(key)) == nil {
                table.release(memory.capacity, of: job.user)
                return false
            }
            table.insert(
                .init(memory: memory, byteCount: byteCount, modified: modified, creator: 0, isCopy: isCopy), as: key, of: job)
            return true
        }
    }

    /// Memory within the keeper's limits; `nil` where there is none.
    func hold(_ byteCount: Int, of user: UInt32, _ name: String) -> KeptMemory? {
        guard let capacity = try? access.change({ table throws(CairnError) in try table.hold(byteCount, of: user, name) })
        else { return nil }
        if let memory = try? KeptMemory(capacity: capacity, name: "cairn-group") { return memory }
        access.change { $0.release(capacity, of: user) }
        return nil
    }

    // MARK: - Deleting

    /// The newest save of a job that every member had whole, with its parity.
    package func newestProtected(_ job: KeeperTable.JobName) -> GroupStep? {
        guard layout.parityCount > 0 else { return nil }
        return protected.filter { $0.job == job }.max(by: precedes)
    }

    /// The saves of a job that stay although they were deleted: the newest protected one, and that which will be next.
    private func pinned(_ job: KeeperTable.JobName) -> [GroupStep] {
        guard layout.parityCount > 0 else { return [] }
        let newest = newestProtected(job)
        var pinned = newest.map { [$0] } ?? []
        guard unavailable.isEmpty else { return pinned }
        let next = steps.keys.filter { step in
            step.job == job && !protected.contains(step) && steps[step]?.failure == nil
                && newest.map { precedes($0, step) } ?? true && !others.contains { progress(of: step, at: $0) == .failed }
        }.min(by: precedes)
        if let next { pinned.append(next) }
        return pinned
    }

    func progress(of step: GroupStep, at peer: Int) -> GroupState.Progress? {
        peers[peer].state?.entries.first { $0.step == step }?.progress
    }

    /// Notes what a trainer deletes.
    ///
    /// - Returns: What is to be deleted now. The rest follows once a newer save is protected.
    package mutating func deleteLater(_ job: KeeperTable.JobName, _ keys: [String]) -> [String] {
        refresh()
        let pinned = Set(pinned(job))
        return keys.filter { key in
            guard let number = StepName.step(ofKey: key), let step = known[job]?[number], pinned.contains(step),
                let state = steps[step],
                state.files[key] != nil || key == StepName.prefix(number) + CairnReader.manifestName
            else { return true }
            steps[step]?.deferred.insert(key)
            deferring.insert(step)
            return false
        }
    }

    /// Deletes what a newer save has made superfluous.
    mutating func letGo() {
        for job in Set(deferring.map(\.job)) {
            let pinned = Set(pinned(job))
            for step in deferring where step.job == job && !pinned.contains(step) {
                guard let keys = steps[step]?.deferred else { continue }
                steps[step]?.deferred = []
                deferring.remove(step)
                access.change { table in for key in keys { table.remove(key, of: job) } }
                beginDelete(job, keys.sorted(), isInternal: true)
                refresh()
            }
        }
    }

    /// Every member has said that it has all of a save.
    mutating func noteProtection(_ step: GroupStep) {
        guard settled.contains(step), others.allSatisfy({ progress(of: step, at: $0) == .complete }) else { return }
        protected.insert(step)
    }

    // MARK: - What nobody will commit

    /// Removes files of processes that are gone and of which no manifest will speak: a newer save is there, or no process of the
    /// job is anywhere.
    private mutating func removeLeftBehind() {
        var found: Set<LeftFile> = []
        access.change { table in
            let alive = Set(table.connections.keys)
            for (job, objects) in table.jobs {
                for (key, object) in objects where object.creator != 0 && !alive.contains(object.creator) {
                    guard let number = StepName.step(ofKey: key) else { continue }
                    let name = key.dropFirst(StepName.prefix(number).count)
                    guard name.hasPrefix("rank-") else { continue }
                    if let step = known[job]?[number], steps[step]?.files[key] != nil { continue }
                    found.insert(LeftFile(job: job, key: key, modified: object.modified))
                }
            }
        }
        leftBehind = leftBehind.filter { found.contains($0.key) }
        for file in found where leftBehind[file] == nil { leftBehind[file] = now }
        guard !leftBehind.isEmpty else { return }
        let running = access.change { Self.runningJobs($0) }
        for (file, since) in leftBehind {
            let isOld = (known[file.job] ?? [:]).values.contains { (steps[$0]?.modified ?? 0) > file.modified }
            let isOrphan =
                !running.contains(file.job)
                && others.allSatisfy { peer in
                    guard isHeard(peer), let state = peers[peer].state, peers[peer].stateTime > since else { return false }
                    return !state.running.contains(file.job) && state.entries.allSatisfy { steps[$0.step] != nil }
                }
            guard isOld || isOrphan else { continue }
            access.change { table in
                if table.jobs[file.job]?[file.key]?.modified == file.modified { table.remove(file.key, of: file.job) }
            }
            leftBehind[file] = nil
        }
    }
}
