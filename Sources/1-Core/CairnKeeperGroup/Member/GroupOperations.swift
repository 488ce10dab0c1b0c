package import CairnBase
import CairnCheckpoint
package import CairnKeeper
package import CairnStorage

/// What came of an operation.
package enum OperationResult: Sendable {
    case entries([StorageEntry])
    case object(KeeperRemoteObject)
    case bytes([UInt8])
    case done
    case failed(CairnError)
}

/// The search for an object of other hosts.
struct GroupFind {
    let key: String
    let begun: Int64
    /// Who has yet to answer, and who did not.
    var waiting: Set<Int> = []
    var silent: Set<Int> = []
    var best: KeeperRemoteObject?
}

/// Something that a member does for its host, and that may take several messages.
struct Operation {
    enum Kind {
        case list(prefix: String, waiting: Set<Int>, entries: [String: StorageEntry])
        case find(GroupFind)
        case read(GroupRead)
        case delete(waiting: Set<Int>)
    }

    /// Who gets the result.
    enum Purpose {
        case caller
        case nobody
        case adoption(GroupStep, modified: Int64)
        case rebuild(GroupStep, String, KeptMemory)
    }

    var job: KeeperTable.JobName
    var kind: Kind
    var purpose = Purpose.caller
}

extension GroupMember {
    /// Memory that is being filled with what was lost here.
    package var rebuildingByteCount: Int {
        operations.values.reduce(0) { sum, operation in
            guard case .rebuild(_, _, let memory) = operation.purpose else { return sum }
            return sum + memory.capacity
        }
    }

    mutating func begin(_ operation: Operation) -> Int {
        lastOperation += 1
        operations[lastOperation] = operation
        return lastOperation
    }

    mutating func finish(_ number: Int, _ result: OperationResult) {
        guard let operation = operations.removeValue(forKey: number) else { return }
        switch operation.purpose {
        case .caller: results.append((number, result))
        case .nobody: break
        case .adoption(let step, let modified):
            if case .bytes(let bytes) = result {
                adopted(step, modified: modified, bytes)
            } else {
                adopted(step, modified: modified, nil)
            }
        case .rebuild(let step, let key, let memory):
            guard case .read(let read) = operation.kind else { return }
            if case .failed(let error) = result {
                rebuilt(step, key, memory, 0, error)
            } else {
                rebuilt(step, key, memory, read.object.byteCount, nil)
            }
        }
    }

    // MARK: - Lists

    /// What others have; lost members' files are among it as far as their descriptions are known.
    package mutating func beginList(_ job: KeeperTable.JobName, prefix: String) -> Int {
        var entries: [String: StorageEntry] = [:]
        for (step, state) in steps where step.job == job && state.geometry != nil {
            for (key, byteCount) in state.files where StorageKey.has(key, prefix: prefix) {
                entries[key] = StorageEntry(key: key, byteCount: byteCount, modified: max(0, state.modified - 1))
            }
        }
        let number = begin(Operation(job: job, kind: .list(prefix: prefix, waiting: [], entries: entries)))
        var waiting: Set<Int> = []
        for peer in others where ask(peer, .list(job, prefix: prefix, after: nil), .list(number)) { waiting.insert(peer) }
        operations[number]?.kind = .list(prefix: prefix, waiting: waiting, entries: entries)
        finishList(number)
        return number
    }

    private mutating func finishList(_ number: Int) {
        guard let operation = operations[number], case .list(_, let waiting, let entries) = operation.kind, waiting.isEmpty
        else { return }
        finish(number, .entries(entries.values.sorted { StorageKey.precedes($0.key, $1.key) }))
    }

    mutating func listed(_ number: Int, _ answer: GroupMessage?, from peer: Int) {
        guard let operation = operations[number], case .list(let prefix, var waiting, var entries) = operation.kind else {
            return
        }
        waiting.remove(peer)
        if case .entries(let more, let isComplete)? = answer {
            for entry in more where StorageKey.has(entry.key, prefix: prefix) {
                if let old = entries[entry.key], old.modified >= entry.modified { continue }
                entries[entry.key] = entry
            }
            if !isComplete, let last = more.last,
                ask(peer, .list(operation.job, prefix: prefix, after: last.key), .list(number))
            {
                waiting.insert(peer)
            }
        }
        operations[number]?.kind = .list(prefix: prefix, waiting: waiting, entries: entries)
        finishList(number)
    }

    // MARK: - Finding

    /// Where an object is that this host does not have.
    package mutating func beginFind(_ job: KeeperTable.JobName, key: String) -> Int {
        var find = GroupFind(key: key, begun: now)
        for peer in others where !isAvailable(peer) { find.silent.insert(peer) }
        let number = begin(Operation(job: job, kind: .find(find)))
        if describedObject(job, key) == nil {
            for peer in others where ask(peer, .find(job, key: key), .find(number)) { find.waiting.insert(peer) }
        }
        operations[number]?.kind = .find(find)
        finishFind(number)
        return number
    }

    private func describedObject(_ job: KeeperTable.JobName, _ key: String) -> KeeperRemoteObject? {
        for (step, state) in steps where step.job == job && state.geometry != nil {
            for (member, descriptor) in state.descriptors.enumerated() {
                guard let range = descriptor?.range(of: key) else { continue }
                return KeeperRemoteObject(
                    key: key, byteCount: range.count, modified: max(0, state.modified - 1), member: member,
                    place: .init(step: step.step, saveID: step.saveID, offset: range.lowerBound))
            }
        }
        return nil
    }

    mutating func found(_ number: Int, _ answer: GroupMessage?, from peer: Int) {
        guard case .find(var find)? = operations[number]?.kind else { return }
        find.waiting.remove(peer)
        switch answer {
        case .entries(let entries, _)?:
            if let entry = entries.first, entry.key == find.key, (find.best?.modified ?? -1) < entry.modified {
                find.best = KeeperRemoteObject(
                    key: find.key, byteCount: entry.byteCount, modified: entry.modified, member: peer)
            }
        case nil: find.silent.insert(peer)
        default: break
        }
        operations[number]?.kind = .find(find)
        finishFind(number)
    }

    /// Ends what waited for descriptions that have come by now, or never will.
    mutating func finishFinds() {
        for number in operations.keys.sorted() { finishFind(number) }
    }

    private mutating func finishFind(_ number: Int) {
        guard let operation = operations[number], case .find(let find) = operation.kind, find.waiting.isEmpty else { return }
        if let object = find.best ?? describedObject(operation.job, find.key) { return finish(number, .object(object)) }
        if now < find.begun + options.timeout, mayBeDescribed(operation.job, find) { return }
        // Only of what a checkpoint must have it matters that some cannot be asked.
        let isNamed = steps.contains { $0.key.job == operation.job && $0.value.files[find.key] != nil }
        guard isNamed, !find.silent.isEmpty else {
            return finish(
                number, .failed(CairnError(.notFound, "no keeper of the group has such an object", .init(file: find.key))))
        }
        finish(number, .failed(unreachable(find.key, find.silent.sorted(), "the file")))
    }

    /// Whether the bundle of a file that nobody has may yet be described. A member that has just come back learns of the saves
    /// one after the other.
    private func mayBeDescribed(_ job: KeeperTable.JobName, _ find: GroupFind) -> Bool {
        guard let number = StepName.step(ofKey: find.key) else { return false }
        if let step = known[job]?[number], let state = steps[step] {
            return state.files[find.key] != nil && state.geometry == nil && state.failure == nil
                && zip(state.descriptors, state.exhausted).allSatisfy { $0 != nil || $1 < find.begun }
        }
        return others.contains { peer in
            isAvailable(peer)
                && peers[peer].state?.entries.contains {
                    $0.step.job == job && $0.step.step == number && !dropped.contains($0.step)
                } == true
        }
    }

    /// The error of what cannot be read while members are away, and could be if they were there.
    func unreachable(_ key: String, _ members: [Int], _ what: String) -> CairnError {
        let isCovered = members.count <= layout.parityCount
        return CairnError(
            .inputOutput,
            "keepers of the group do not answer, and \(what) cannot be rebuilt without them"
                + (isCovered ? ": its checkpoint was not protected yet" : ""),
            .init(
                file: key, expected: isCovered ? nil : "at most \(layout.parityCount) of \(layout.memberCount) members lost",
                found: "no answer from members " + members.map(String.init).joined(separator: ", ")))
    }

    // MARK: - Deleting

    /// Deletes objects of a job at all other members that can be reached.
    @discardableResult
    package mutating func beginDelete(_ job: KeeperTable.JobName, _ keys: [String], isInternal: Bool = false) -> Int {
        let number = begin(Operation(job: job, kind: .delete(waiting: []), purpose: isInternal ? .nobody : .caller))
        var waiting: Set<Int> = []
        for peer in others where ask(peer, .delete(job, keys: keys), .delete(number)) { waiting.insert(peer) }
        operations[number]?.kind = .delete(waiting: waiting)
        if waiting.isEmpty { finish(number, .done) }
        return number
    }

    mutating func deleted(_ number: Int, from peer: Int) {
        guard let operation = operations[number], case .delete(var waiting) = operation.kind else { return }
        waiting.remove(peer)
        operations[number]?.kind = .delete(waiting: waiting)
        if waiting.isEmpty { finish(number, .done) }
    }
}
