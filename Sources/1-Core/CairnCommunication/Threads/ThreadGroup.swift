package import CairnBase

/// The state that the ranks of one group share.
///
/// A collective call has two phases. In the first, each rank lays out its buffer and waits for the others; the call is
/// then certain to succeed, and each rank works on all buffers without a lock. In the second it waits until no rank uses
/// its buffer any more. A failure ends the first wait and never the second: the memory must stay until all are done.
///
/// `@unchecked Sendable`: every mutable property is guarded by the world's lock; the memory behind the slots is touched
/// between the two phases only, by one rank an element.
final class ThreadGroup: @unchecked Sendable {
    /// What a rank lays out for the others.
    struct Slot {
        var base: UnsafeMutableRawPointer?
        var message: [UInt8] = []
        var color = 0
        var key = 0
    }

    /// Where messages wait: by sender and tag.
    private struct Address: Hashable {
        let receiver: Int
        let sender: Int
        let tag: Int
    }

    let world: ThreadWorld
    /// The ranks of the whole job that make the group, in the group's order.
    let members: [Int]
    private(set) var failure: CairnError?

    private var slots: [Slot]
    private var firstCall: (rank: Int, call: CommunicatorCall)?
    private var arrived = 0
    private var working = 0
    private var generation = 0
    private let progress = WaitCondition()

    private var messages: [Address: MessageQueue] = [:]
    private let arrivals: [WaitCondition]

    private var subgroups: [WeakGroup] = []
    private var splitting: [Int: ThreadGroup] = [:]

    private struct WeakGroup {
        weak var group: ThreadGroup?
    }

    init(world: ThreadWorld, members: [Int]) {
        self.world = world
        self.members = members
        slots = Array(repeating: Slot(), count: members.count)
        arrivals = members.map { _ in WaitCondition() }
    }

    /// Ends the group and those split off it. The caller holds the lock.
    func end(with error: CairnError) {
        if failure == nil { failure = error }
        for (member, arrival) in zip(members, arrivals) {
            world.wake(rank: member, on: progress)
            world.wake(rank: member, on: arrival)
            arrival.wakeAll()
        }
        progress.wakeAll()
        for subgroup in subgroups { subgroup.group?.end(with: error) }
    }

    /// Makes the collective `call`: waits for all ranks, runs `work` with what they laid out, and returns when all
    /// ranks have done theirs.
    func collective<Value>(
        _ call: CommunicatorCall, rank: Int, slot: Slot, work: ([Slot]) -> Value
    ) throws(CairnError) -> Value {
        let slots = try begin(call, rank: rank, slot: slot)
        let value = work(slots)
        finish()
        return value
    }

    private func begin(_ call: CommunicatorCall, rank: Int, slot: Slot) throws(CairnError) -> [Slot] {
        world.lock.lock()
        defer { world.lock.unlock() }
        if let failure { throw failure }
        if let first = firstCall, first.call != call {
            let error = CairnError.mismatchedCalls(
                call.mismatch(rank: members[rank], other: first.call, otherRank: members[first.rank]))
            end(with: error)
            throw error
        }
        if firstCall == nil { firstCall = (rank, call) }
        slots[rank] = slot
        arrived += 1
        if arrived == members.count {
            arrived = 0
            firstCall = nil
            working = members.count
            generation += 1
            for member in members { world.wake(rank: member, on: progress) }
            progress.wakeAll()
            return slots
        }
        let awaited = generation
        while generation == awaited {
            if let failure { throw failure }
            world.wait(on: progress, rank: members[rank], call: call)
        }
        return slots
    }

    private func finish() {
        world.lock.lock()
        defer { world.lock.unlock() }
        working -= 1
        if working == 0 {
            splitting = [:]
            progress.wakeAll()
        }
        // The next call cannot begin to work before this rank has made it, so `working` cannot rise again unseen.
        while working > 0 { progress.wait(world.lock) }
    }

    /// The group of the ranks that passed `color`; the first to ask makes it. For use within a collective call.
    func subgroup(color: Int, members: [Int]) -> ThreadGroup {
        world.lock.lock()
        defer { world.lock.unlock() }
        if let group = splitting[color] { return group }
        let group = ThreadGroup(world: world, members: members)
        group.failure = failure
        splitting[color] = group
        subgroups.removeAll { $0.group == nil }
        subgroups.append(WeakGroup(group: group))
        return group
    }

    // MARK: Messages

    func send(_ message: [UInt8], from sender: Int, to receiver: Int, tag: Int) throws(CairnError) {
        world.lock.lock()
        defer { world.lock.unlock() }
        if let failure { throw failure }
        messages[Address(receiver: receiver, sender: sender, tag: tag), default: MessageQueue()].append(message)
        world.wake(rank: members[receiver], on: arrivals[receiver])
        arrivals[receiver].wakeAll()
    }

    func receive(_ buffer: UnsafeMutableRawBufferPointer, from sender: Int, to receiver: Int, tag: Int)
        throws(CairnError)
    {
        let message = try nextMessage(ofCount: buffer.count, from: sender, to: receiver, tag: tag)
        message.withUnsafeBytes { buffer.copyMemory(from: $0) }
    }

    private func nextMessage(ofCount count: Int, from sender: Int, to receiver: Int, tag: Int)
        throws(CairnError) -> [UInt8]
    {
        let address = Address(receiver: receiver, sender: sender, tag: tag)
        let call = CommunicatorCall(.receive, root: members[sender], count: count, detail: tag)
        world.lock.lock()
        defer { world.lock.unlock() }
        while true {
            if let failure { throw failure }
            if let message = messages[address]?.removeFirst() {
                if messages[address]?.isEmpty == true { messages[address] = nil }
                guard message.count == count else {
                    let error = CairnError.mismatchedCalls(
                        "rank \(members[sender]) sends \(message.count) bytes to rank \(members[receiver]), "
                            + "which calls \(call)")
                    end(with: error)
                    throw error
                }
                return message
            }
            world.wait(on: arrivals[receiver], rank: members[receiver], call: call)
        }
    }
}

/// Messages in the order they were sent.
private struct MessageQueue {
    private var messages: [[UInt8]?] = []
    private var head = 0

    var isEmpty: Bool { head == messages.count }

    mutating func append(_ message: [UInt8]) { messages.append(message) }

    mutating func removeFirst() -> [UInt8]? {
        guard head < messages.count else { return nil }
        let message = messages[head]
        messages[head] = nil
        head += 1
        // A queue that never runs empty gives back the room of what is gone.
        if head > 64, head * 2 > messages.count {
            messages.removeFirst(head)
            head = 0
        }
        return message
    }
}

extension CairnError {
    /// Ranks that do not make the same calls.
    package static func mismatchedCalls(_ message: String) -> CairnError {
        CairnError(
            .mismatch, message,
            Context(advice: "every rank of a group has to make the same calls in the same order, with the same sizes"))
    }
}
