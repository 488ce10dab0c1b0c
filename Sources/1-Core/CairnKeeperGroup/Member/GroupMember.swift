package import CairnBase
package import CairnKeeper

/// One keeper of a group, without network and clock: what it knows of the group's saves, and what it asks the others for.
///
/// Messages and the time go in, messages and results come out. Everything is pulled by who needs it, and can be asked again, so
/// that lost, doubled and late messages change nothing. Bytes are believed once the checksums of their bundle say so.
package struct GroupMember {
    package struct Options: Sendable {
        /// How long an answer is waited for, in nanoseconds, and after which silence another member counts as gone.
        package var timeout: Int64 = 5_000_000_000
        /// How often a member tells the others of itself.
        package var heartbeat: Int64 = 1_000_000_000
        /// Reads the manifest of a save.
        package var manifest: @Sendable ([UInt8], String) throws(CairnError) -> SavedFiles = SavedFiles.init(manifest:file:)

        package init() {}
    }

    /// Another member, as this one sees it.
    package struct Peer: Sendable {
        package var lastHeard: Int64?
        /// After an answer that did not come: nothing is asked before.
        package var restsUntil: Int64 = 0
        var failures = 0
        package var state: GroupState?
        var stateTime: Int64 = 0
        /// How often it gave bytes that their checksums refuse.
        package var wrongAnswers = 0
        package var lateAnswers = 0
    }

    struct Pending {
        var peer: Int
        var deadline: Int64
        var purpose: Purpose
    }

    /// What an answer is for.
    enum Purpose {
        case list(Int)
        case find(Int)
        case delete(Int)
        /// A piece of a read, straight or as a row of its stripe.
        case piece(Int, piece: Int, row: Int?)
        case descriptor(GroupStep, member: Int)
        case parity(GroupStep, stripe: Int, column: Int, offset: Int)
    }

    package struct Outgoing: Sendable {
        package var peer: Int
        package var number: UInt64
        package var message: GroupMessage
    }

    package let layout: GroupLayout
    package let own: Int
    let code: GroupCode
    let access: any KeeperTableAccess
    let options: Options
    /// After what did not work, in nanoseconds.
    let pause: Int64
    package internal(set) var now: Int64
    package internal(set) var peers: [Peer]
    package internal(set) var steps: [GroupStep: StepState] = [:]
    /// Of these nothing is left to do here, those have been whole everywhere, and of those some keys are to be deleted later.
    var settled: Set<GroupStep> = []
    var protected: Set<GroupStep> = []
    var deferring: Set<GroupStep> = []
    /// The save of each step of a job that has a manifest here.
    var known: [KeeperTable.JobName: [Int: GroupStep]] = [:]
    /// Saves that were deleted here: who still has them is told so.
    var dropped: [GroupStep] = []
    /// Files of processes that are gone, and since when.
    var leftBehind: [LeftFile: Int64] = [:]
    /// Saves whose manifests are being fetched.
    var adopting: Set<GroupStep> = []
    var pending: [UInt64: Pending] = [:]
    var operations: [Int: Operation] = [:]
    var lastNumber: UInt64
    var lastOperation = 0
    private let incarnation: Int
    private var stateNumber = 0
    private var nextHeartbeat: Int64 = 0
    private var nextRefresh: Int64 = 0
    var hasChanged = true
    var mustTell = false
    package internal(set) var outgoing: [Outgoing] = []
    package internal(set) var results: [(operation: Int, result: OperationResult)] = []

    struct LeftFile: Hashable {
        var job: KeeperTable.JobName
        var key: String
        var modified: Int64
    }

    /// - Parameter incarnation: A number that is larger at each start of the member, such as the time.
    package init(
        _ layout: GroupLayout, own: Int, access: any KeeperTableAccess, incarnation: Int, now: Int64, options: Options
    ) throws(CairnError) {
        self.layout = layout
        self.own = own
        self.access = access
        self.options = options
        pause = max(options.timeout / 10, 1)
        self.incarnation = incarnation
        self.now = now
        // Answers to an earlier start's requests must not meet this one's.
        lastNumber = UInt64(truncatingIfNeeded: incarnation) << 20
        peers = Array(repeating: Peer(), count: layout.memberCount)
        code = try GroupCode(layout)
        access.change { $0.isOfGroup = true }
    }

    // MARK: - Events

    /// The table has changed.
    package mutating func noteChange() { hasChanged = true }

    /// Time has passed.
    package mutating func tick(_ now: Int64) {
        self.now = max(self.now, now)
        expire()
        if hasChanged || now >= nextRefresh {
            hasChanged = false
            nextRefresh = now + options.heartbeat
            refresh()
        }
        for step in steps.keys.filter({ !settled.contains($0) }).sorted(by: precedes) { advance(step) }
        letGo()
        finishFinds()
        if mustTell || now >= nextHeartbeat {
            mustTell = false
            nextHeartbeat = now + options.heartbeat
            for peer in peers.indices where peer != own { tell(peer) }
        }
    }

    /// A message has come.
    package mutating func receive(_ message: GroupMessage, number: UInt64, from peer: Int, now: Int64) {
        guard peers.indices.contains(peer), peer != own else { return }
        self.now = max(self.now, now)
        if !isHeard(peer) {
            // It is back: what it did not answer before says nothing any more.
            peers[peer].restsUntil = 0
            peers[peer].failures = 0
        }
        peers[peer].lastHeard = self.now
        switch message {
        case .state(let state): learn(state, from: peer)
        case .drop(let steps): for step in steps { dropAsTold(step) }
        case let answer where answer.isAnswer:
            guard let request = pending[number], request.peer == peer else { return }
            pending[number] = nil
            peers[peer].failures = 0
            resolve(request.purpose, answer, from: peer)
        default: outgoing.append(Outgoing(peer: peer, number: number, message: answer(message)))
        }
    }

    package mutating func takeOutgoing() -> [Outgoing] {
        defer { outgoing = [] }
        return outgoing
    }

    package mutating func takeResults() -> [(operation: Int, result: OperationResult)] {
        defer { results = [] }
        return results
    }

    // MARK: - Others

    /// Whether a member is there and may be asked.
    package func isAvailable(_ peer: Int) -> Bool {
        guard peer != own else { return true }
        return isHeard(peer) && now >= peers[peer].restsUntil
    }

    package func isHeard(_ peer: Int) -> Bool { peers[peer].lastHeard.map { now - $0 < options.timeout } ?? false }

    var others: [Int] { peers.indices.filter { $0 != own } }

    var unavailable: [Int] { others.filter { !isAvailable($0) } }

    /// Asks a member, unless it is away.
    mutating func ask(_ peer: Int, _ message: GroupMessage, _ purpose: Purpose) -> Bool {
        guard peer != own, isAvailable(peer) else { return false }
        lastNumber += 1
        pending[lastNumber] = Pending(peer: peer, deadline: now + options.timeout, purpose: purpose)
        outgoing.append(Outgoing(peer: peer, number: lastNumber, message: message))
        return true
    }

    /// Gives up what is too late. Who lets one answer be waited for in vain is not asked again for a while.
    private mutating func expire() {
        let late = Set(pending.values.filter { $0.deadline <= now }.map(\.peer))
        for peer in late {
            peers[peer].failures += 1
            peers[peer].lateAnswers += 1
            peers[peer].restsUntil = now + min(options.timeout << min(peers[peer].failures - 1, 4), 60_000_000_000)
        }
        let lost = pending.filter { !isAvailable($0.value.peer) }.sorted { $0.key < $1.key }
        for (number, _) in lost { pending[number] = nil }
        for (_, request) in lost { resolve(request.purpose, nil, from: request.peer) }
    }

    private mutating func resolve(_ purpose: Purpose, _ answer: GroupMessage?, from peer: Int) {
        switch purpose {
        case .list(let operation): listed(operation, answer, from: peer)
        case .find(let operation): found(operation, answer, from: peer)
        case .delete(let operation): deleted(operation, from: peer)
        case .piece(let operation, let piece, let row): read(operation, piece, row, answer, from: peer)
        case .descriptor(let step, let member): described(step, member, answer, from: peer)
        case .parity(let step, let stripe, let column, let offset): pulled(step, stripe, column, offset, answer, from: peer)
        }
    }

    // MARK: - States

    /// The older save first.
    func precedes(_ one: GroupStep, _ other: GroupStep) -> Bool {
        (steps[one]?.modified ?? 0, one.step, one.saveID) < (steps[other]?.modified ?? 0, other.step, other.saveID)
    }

    private mutating func tell(_ peer: Int) {
        stateNumber += 1
        let entries = steps.keys.sorted(by: precedes).suffix(1000).map { step in
            GroupState.Entry(
                step: step, modified: steps[step]?.modified ?? 0, byteCount: steps[step]?.manifestByteCount ?? 0,
                progress: steps[step]?.progress ?? .failed)
        }
        let running = access.change { Self.runningJobs($0) }
        let state = GroupState(
            incarnation: incarnation, number: stateNumber, asks: !isHeard(peer), entries: Array(entries),
            running: running.sorted { ($0.user, $0.name) < ($1.user, $1.name) })
        lastNumber += 1
        outgoing.append(Outgoing(peer: peer, number: lastNumber, message: .state(state)))
    }

    static func runningJobs(_ table: KeeperTable) -> Set<KeeperTable.JobName> {
        Set(table.connections.values.filter { !$0.isObserver }.compactMap(\.job))
    }

    private mutating func learn(_ state: GroupState, from peer: Int) {
        if let old = peers[peer].state, (old.incarnation, old.number) >= (state.incarnation, state.number) { return }
        if peers[peer].state?.incarnation != state.incarnation {
            // It was started again: what was asked of it before is not answered.
            peers[peer].restsUntil = 0
        }
        peers[peer].state = state
        peers[peer].stateTime = now
        let newest = state.entries.map(\.modified).max() ?? 0
        access.change { $0.latestTime = max($0.latestTime, newest) }
        let gone = state.entries.map(\.step).filter(dropped.contains)
        if !gone.isEmpty {
            lastNumber += 1
            outgoing.append(Outgoing(peer: peer, number: lastNumber, message: .drop(gone)))
        }
        for entry in state.entries where steps[entry.step] == nil && !dropped.contains(entry.step) {
            if let same = known[entry.step.job]?[entry.step.step], (steps[same]?.modified ?? 0) >= entry.modified { continue }
            adopt(entry, from: peer)
        }
        for step in settled where !protected.contains(step) { noteProtection(step) }
        if state.asks { tell(peer) }
    }
}
