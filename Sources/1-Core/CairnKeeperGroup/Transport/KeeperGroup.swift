package import CairnBase
package import CairnKeeper
package import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A keeper's membership in a group: a thread that talks to the other members, and the calls that wait for what it brings.
package final class KeeperGroup: KeeperPeers {
    private let file: GroupFile
    private let own: Int
    private let timeout: Duration
    private let state: Monitor<State>
    private let ended = Monitor(false)

    private struct State {
        var member: GroupMember
        var results: [Int: OperationResult] = [:]
        /// Operations whose callers still wait.
        var awaited: Set<Int> = []
        var trouble = GroupTransport.Trouble()
        var isEnding = false
        var bell: GroupTransport.Alarm?
    }

    /// Joins a group.
    ///
    /// - Parameters:
    ///   - name: Which of the members this is.
    ///   - key: Its keys; the public one is that of the group file.
    ///   - timeout: How long an answer is waited for at most.
    package init(
        _ file: GroupFile, member name: String, key: CurveKey, timeout: Duration, table: any KeeperTableAccess
    ) throws(CairnError) {
        guard let own = file.members.firstIndex(where: { $0.name == name }) else {
            throw CairnError(
                .invalidArgument, "the group has no such member",
                .init(expected: "one of \(file.members.map(\.name).joined(separator: ", "))", found: name))
        }
        guard file.members[own].key == key.publicText else {
            throw CairnError(
                .invalidArgument, "the key is not that of the member in the group file",
                .init(expected: file.members[own].key, found: key.publicText))
        }
        self.file = file
        self.own = own
        self.timeout = timeout
        var options = GroupMember.Options()
        options.timeout = Self.nanoseconds(timeout)
        options.heartbeat = max(options.timeout / 5, 1_000_000)
        let transport = try GroupTransport(file, own: own, key: key)
        let member = try GroupMember(
            GroupLayout(memberCount: file.members.count, parityCount: file.parity), own: own, access: table,
            incarnation: Int(Self.time(CLOCK_REALTIME) / 1_000_000), now: Self.time(CLOCK_MONOTONIC), options: options)
        state = Monitor(State(member: member))
        // Handed over to the thread, which alone uses it from here on.
        let box = TransportBox(transport)
        startThread { self.run(box.transport) }
        // Who has just come knows nothing: what a trainer asks first is answered better once the others are known.
        _ = state.wait(until: .now + timeout) { state in
            state.member.peers.indices.allSatisfy { $0 == own || state.member.isHeard($0) } ? true : nil
        }
    }

    /// `@unchecked Sendable`: it is handed over once, and then used by one thread.
    private final class TransportBox: @unchecked Sendable {
        let transport: GroupTransport
        init(_ transport: GroupTransport) { self.transport = transport }
    }

    private static func nanoseconds(_ duration: Duration) -> Int64 {
        let parts = duration.components
        return max(1_000_000, parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000)
    }

    private static func time(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    // MARK: - The thread

    private func run(_ transport: GroupTransport) {
        state.change { $0.bell = transport.bell }
        var isBusy = false
        while !state.read(\.isEnding) {
            let frames = transport.wait(milliseconds: isBusy ? 0 : 50)
            var outgoing: [GroupMember.Outgoing] = []
            isBusy = state.change { state in
                let now = Self.time(CLOCK_MONOTONIC)
                for (peer, frame) in frames {
                    state.member.receive(frame.message, number: frame.number, from: peer, now: now)
                }
                state.member.tick(now)
                let isBusy = state.member.work()
                outgoing = state.member.takeOutgoing()
                for (operation, result) in state.member.takeResults() where state.awaited.contains(operation) {
                    state.results[operation] = result
                }
                state.trouble = transport.trouble
                return isBusy || !frames.isEmpty
            }
            for message in outgoing { transport.send(message) }
        }
        state.change { $0.bell = nil }
        ended.change { $0 = true }
    }

    /// Ends the thread.
    package func stop() {
        state.change { state in
            state.isEnding = true
            state.bell?.ring()
        }
        _ = ended.wait(until: .now + .seconds(5)) { $0 ? true : nil }
    }

    /// Begins an operation, and waits for its result, at most a few times the timeout.
    private func perform(_ begin: (inout GroupMember) -> Int) -> OperationResult {
        let operation = state.change { state in
            let operation = begin(&state.member)
            state.awaited.insert(operation)
            state.bell?.ring()
            return operation
        }
        let result = state.wait(until: .now + timeout * 4) { $0.results.removeValue(forKey: operation) }
        state.change { state in
            state.awaited.remove(operation)
            state.results[operation] = nil
        }
        return result
            ?? .failed(
                CairnError(
                    .inputOutput, "the keepers of the group did not bring it in time", .init(expected: "within \(timeout * 4)")))
    }

    // MARK: - What a keeper asks

    package func list(_ job: KeeperTable.JobName, prefix: String) -> [StorageEntry] {
        guard case .entries(let entries) = perform({ $0.beginList(job, prefix: prefix) }) else { return [] }
        return entries
    }

    package func find(_ job: KeeperTable.JobName, key: String) throws(CairnError) -> KeeperRemoteObject {
        switch perform({ $0.beginFind(job, key: key) }) {
        case .object(let object): return object
        case .failed(let error): throw named(error)
        default: throw CairnError(.notFound, "the keepers have no such object", .init(file: key))
        }
    }

    package func read(
        _ job: KeeperTable.JobName, _ object: KeeperRemoteObject, _ range: Range<Int>
    ) throws(CairnError) -> [UInt8] {
        switch perform({ $0.beginRead(job, object, range) }) {
        case .bytes(let bytes): return bytes
        case .failed(let error): throw named(error)
        default: throw CairnError(.notFound, "the keepers have no such object", .init(file: object.key))
        }
    }

    /// Members by their names instead of their numbers.
    private func named(_ error: CairnError) -> CairnError {
        var error = error
        let beginning = "no answer from members "
        if let found = error.context.found, found.hasPrefix(beginning) {
            let names = found.dropFirst(beginning.count).split(separator: ", ").map { number in
                Int(number).flatMap { file.members.indices.contains($0) ? file.members[$0].name : nil } ?? String(number)
            }
            error.context.found = beginning + names.joined(separator: ", ")
        }
        return error
    }

    package func delete(_ job: KeeperTable.JobName, keys: [String]) {
        _ = perform { member in
            let immediate = member.deleteLater(job, keys)
            member.removeHere(job, immediate)
            return member.beginDelete(job, immediate)
        }
    }

    package func forget(_ job: KeeperTable.JobName) {
        let keys = list(job, prefix: "").map(\.key)
        _ = perform { member in
            member.removeHere(job, keys)
            return member.beginDelete(job, keys)
        }
    }

    package func changed() {
        state.change(waking: .none) { state in
            state.member.noteChange()
            state.bell?.ring()
        }
    }

    package func status(of user: UInt32?) -> KeeperStatus.Group {
        state.change(waking: .none) { state in
            let member = state.member
            let members = file.members.enumerated().map { index, entry in
                let isReachable = index == own || member.isAvailable(index)
                let problem =
                    isReachable ? "" : member.isHeard(index) ? "it does not answer in time" : "nothing was heard of it"
                return KeeperStatus.Group.Member(
                    name: entry.name, address: entry.address, isReachable: isReachable, problem: problem,
                    wrongAnswers: member.peers[index].wrongAnswers, lateAnswers: member.peers[index].lateAnswers)
            }
            return KeeperStatus.Group(
                name: file.name, member: file.members[own].name, parity: file.parity, members: members,
                saves: member.saves(of: user), refused: state.trouble.refused, malformed: state.trouble.malformed,
                lastRefusal: state.trouble.last)
        }
    }
}
