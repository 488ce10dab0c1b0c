import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnKeeperGroup
import CairnStorage
import CairnTesting

/// A group of keepers with the real tables and the real code, over a network that a seed determines: messages are lost, come
/// twice, late and in another order; members die, come back empty, hang, and give wrong bytes.
struct GroupSimulation {
    final class Table: KeeperTableAccess {
        private let table: Monitor<KeeperTable>

        init(memory: Int) {
            var limits = KeeperLimits(memory: memory, memoryPerUser: memory)
            limits.sparesPerConnection = 0
            table = Monitor(KeeperTable(limits: limits))
        }

        func change<Result, Failure: Error>(
            _ body: (inout KeeperTable) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try table.change { table throws(Failure) in try body(&table) }
        }
    }

    struct Host {
        var table: Table
        var member: GroupMember
        /// The trainers' connection.
        var connection: Int?
        var isAlive = true
        /// It takes messages, and does nothing.
        var isHung = false
        /// It changes the bytes that it gives.
        var lies = false
    }

    struct Parcel {
        var from: Int
        var to: Int
        var number: UInt64
        var message: GroupMessage
        var time: Int64
    }

    /// What was saved: the bytes of every file that a committed save names.
    struct Save: Equatable {
        var step: GroupStep
        var files: [String: [UInt8]]
        var time: Int64
    }

    static let job = KeeperTable.JobName(user: 7, name: "job")
    static let millisecond: Int64 = 1_000_000

    var generator: SeededGenerator
    let layout: GroupLayout
    let memory: Int
    var hosts: [Host] = []
    var parcels: [Parcel] = []
    var now: Int64 = 1_000_000_000
    var starts = 0
    var saves: [Save] = []
    var lastStep = 0
    /// Percent of messages that are lost, and that come twice.
    var loss = 0
    var doubling = 0
    var delay: Int64 = 2 * millisecond
    /// Links that are down.
    var cuts: Set<[Int]> = []
    /// Waits of the machine, to see that they are bounded.
    var ticks = 0

    init(seed: UInt64, layout: GroupLayout? = nil, memory: Int = 4 << 20) throws {
        generator = SeededGenerator(seed: seed)
        let count = Int.random(in: 2...6, using: &generator)
        self.layout = layout ?? GroupLayout(memberCount: count, parityCount: Int.random(in: 1..<count, using: &generator))
        self.memory = memory
        for index in 0..<self.layout.memberCount { hosts.append(try makeHost(index)) }
        run(milliseconds: 50)
    }

    /// A manifest of this simulation: the save, then a line a file.
    static func manifest(_ saveID: String, _ files: [String: [UInt8]]) -> [UInt8] {
        Array(([saveID] + files.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.count)" }).joined(separator: "\n").utf8)
    }

    static let options: GroupMember.Options = {
        var options = GroupMember.Options()
        options.timeout = 100 * millisecond
        options.heartbeat = 20 * millisecond
        options.manifest = { bytes, file throws(CairnError) in
            let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            var files: [String: Int] = [:]
            for line in lines.dropFirst() {
                let parts = line.split(separator: " ")
                guard parts.count == 2, let count = Int(parts[1]) else { throw CairnError(.malformed, "no manifest") }
                files[String(parts[0])] = count
            }
            guard let first = lines.first else { throw CairnError(.malformed, "no manifest") }
            return SavedFiles(saveID: String(first), files: files)
        }
        return options
    }()

    mutating func makeHost(_ index: Int) throws -> Host {
        let table = Table(memory: memory)
        starts += 1
        let member = try GroupMember(
            layout, own: index, access: table, incarnation: Int(now) + starts, now: now, options: Self.options)
        return Host(table: table, member: member)
    }

    // MARK: - Time

    /// Sends what a member wants sent.
    mutating func flush(_ index: Int) {
        for outgoing in hosts[index].member.takeOutgoing() {
            guard !cuts.contains([min(index, outgoing.peer), max(index, outgoing.peer)]) else { continue }
            for _ in 0..<(Int.random(in: 0..<100, using: &generator) < doubling ? 2 : 1) {
                if Int.random(in: 0..<100, using: &generator) < loss { continue }
                var message = outgoing.message
                if hosts[index].lies, case .bytes(var bytes) = message, !bytes.isEmpty {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                    message = .bytes(bytes)
                }
                parcels.append(
                    Parcel(
                        from: index, to: outgoing.peer, number: outgoing.number, message: message,
                        time: now + Int64.random(in: 0...delay, using: &generator)))
            }
        }
    }

    mutating func run(milliseconds: Int) {
        for _ in 0..<milliseconds / 5 {
            now += 5 * Self.millisecond
            ticks += 1
            // What an answer brings may come within the same moment.
            for _ in 0..<4 where parcels.contains(where: { $0.time <= now }) {
                let due = parcels.filter { $0.time <= now }
                parcels.removeAll { $0.time <= now }
                for parcel in due.shuffled(using: &generator) where hosts[parcel.to].isAlive && !hosts[parcel.to].isHung {
                    hosts[parcel.to].member.receive(parcel.message, number: parcel.number, from: parcel.from, now: now)
                    flush(parcel.to)
                }
            }
            for index in hosts.indices where hosts[index].isAlive && !hosts[index].isHung {
                hosts[index].member.tick(now)
                while hosts[index].member.work() {}
                flush(index)
            }
        }
    }

    /// Lets time pass until something is so, at most so long.
    mutating func run(atMost milliseconds: Int, until isSo: (GroupSimulation) -> Bool) {
        for _ in 0..<milliseconds / 10 where !isSo(self) { run(milliseconds: 10) }
    }

    /// Whether all members know that a save is protected.
    func isProtected(_ save: Save?) -> Bool {
        hosts.indices.allSatisfy { !hosts[$0].isAlive || hosts[$0].member.newestProtected(Self.job) == save?.step }
    }

    /// Whether all members have all of a save.
    func isWhole(_ save: Save?) -> Bool {
        guard let save else { return true }
        return hosts.indices.allSatisfy { !hosts[$0].isAlive || hosts[$0].member.steps[save.step]?.isComplete == true }
    }

    /// Lets time pass until an operation of a host has ended.
    mutating func await(_ index: Int, _ operation: Int) -> OperationResult? {
        flush(index)
        var results = hosts[index].member.takeResults()
        for _ in 0..<400 {
            if let result = results.first(where: { $0.operation == operation }) { return result.result }
            run(milliseconds: 5)
            results = hosts[index].member.takeResults()
        }
        return nil
    }

    // MARK: - Trainers

    mutating func connection(_ index: Int) throws -> Int {
        if let connection = hosts[index].connection { return connection }
        let connection = try hosts[index].table.change { table throws(CairnError) in
            let connection = try table.connect(.init(user: Self.job.user, process: 1))
            try table.setJob(connection, Self.job, isObserver: false)
            return connection
        }
        hosts[index].connection = connection
        return connection
    }

    mutating func write(_ bytes: [UInt8], as key: String, on index: Int) throws {
        let connection = try connection(index)
        let now = Int64(now)
        try hosts[index].table.change { table throws(CairnError) in
            guard case .granted(let writer, let capacity) = try table.reserve(connection, key: key, byteCount: bytes.count)
            else { throw CairnError(.mismatch, "there are no spares") }
            let memory = try KeptMemory(capacity: capacity, name: key)
            try memory.write(bytes, at: 0)
            table.provide(connection, writer: writer, memory: memory)
            try table.finish(connection, writer: writer, byteCount: bytes.count, now: now)
        }
        hosts[index].member.noteChange()
    }

    /// Saves a step from all hosts that are there; a part of the files only, and no manifest, if it is cut short.
    ///
    /// - Returns: Whether it is committed.
    mutating func save(isCutShort: Bool = false, step: Int? = nil) throws -> Bool {
        lastStep = step ?? lastStep + 1
        let saveID = String(generator.next(), radix: 16)
        let prefix = StepName.prefix(lastStep)
        var files: [String: [UInt8]] = [:]
        do throws(CairnError) {
            for index in hosts.indices {
                for file in 0..<Int.random(in: 0...2, using: &generator) {
                    let size = [0, 1, 63, 64, 65, 500, 3000].randomElement(using: &generator) ?? 0
                    let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
                    let name = "rank-0\(index)\(file)-\(saveID).safetensors"
                    guard hosts[index].isAlive else { continue }
                    do { try write(bytes, as: prefix + name, on: index) } catch let error as CairnError { throw error } catch {}
                    files[name] = bytes
                }
            }
            let leader = hosts.firstIndex { $0.isAlive } ?? 0
            guard !isCutShort, hosts.allSatisfy(\.isAlive) else { return false }
            do { try write(Self.manifest(saveID, files), as: prefix + "manifest.json", on: leader) } catch let error as CairnError
            { throw error } catch {}
        } catch {
            guard error.code == .noSpace else { throw error }
            return false
        }
        saves.append(
            Save(
                step: GroupStep(job: Self.job, step: lastStep, saveID: saveID),
                files: Dictionary(uniqueKeysWithValues: files.map { (prefix + $0.key, $0.value) }), time: now))
        return true
    }

    /// Deletes a save as retention does.
    mutating func delete(_ save: Save, from index: Int) {
        let manifest = StepName.prefix(save.step.step) + "manifest.json"
        for keys in [[manifest], save.files.keys.sorted()] where !keys.isEmpty {
            let immediate = hosts[index].member.deleteLater(Self.job, keys)
            hosts[index].table.change { table in for key in immediate { table.remove(key, of: Self.job) } }
            hosts[index].member.noteChange()
            if !immediate.isEmpty { hosts[index].member.beginDelete(Self.job, immediate) }
            flush(index)
        }
    }

    mutating func killTrainers() {
        for index in hosts.indices {
            guard let connection = hosts[index].connection else { continue }
            hosts[index].table.change { $0.disconnect(connection) }
            hosts[index].connection = nil
            hosts[index].member.noteChange()
        }
    }

    // MARK: - Failures

    mutating func kill(_ index: Int) { hosts[index].isAlive = false }

    /// A member is started again, with nothing.
    mutating func replace(_ index: Int) throws { hosts[index] = try makeHost(index) }

    mutating func calm() {
        (loss, doubling, delay) = (0, 0, 2 * Self.millisecond)
        cuts = []
        for index in hosts.indices {
            hosts[index].isHung = false
            hosts[index].lies = false
        }
    }

    // MARK: - Looking

    /// The bytes of an object as a trainer of a host gets them.
    mutating func read(_ key: String, on index: Int) -> Result<[UInt8], CairnError> {
        let local = hosts[index].table.change { $0.jobs[Self.job]?[key] }
        if let local {
            return Result { () throws(CairnError) in try local.memory.bytes(0..<local.byteCount) }
        }
        let find = hosts[index].member.beginFind(Self.job, key: key)
        switch self.await(index, find) {
        case .object(let object)?:
            let read = hosts[index].member.beginRead(Self.job, object, 0..<object.byteCount)
            switch self.await(index, read) {
            case .bytes(let bytes)?: return .success(bytes)
            case .failed(let error)?: return .failure(error)
            default: return .failure(CairnError(.cancelled, "the read never ended"))
            }
        case .failed(let error)?: return .failure(error)
        default: return .failure(CairnError(.cancelled, "the search never ended"))
        }
    }

    mutating func list(on index: Int) -> [StorageEntry]? {
        let operation = hosts[index].member.beginList(Self.job, prefix: "step-")
        guard case .entries(let entries)? = self.await(index, operation) else { return nil }
        return entries
    }

    /// The newest save that a member knows to be protected.
    func newestProtected(on index: Int) -> Save? {
        guard let step = hosts[index].member.newestProtected(Self.job) else { return nil }
        return saves.last { $0.step == step }
    }

    /// Memory that is taken, less that of objects and parity: should be 0.
    func unaccounted(on index: Int) -> Int {
        hosts[index].table.change { table in
            var used = table.usedByteCount
            for objects in table.jobs.values { for object in objects.values { used -= object.memory.capacity } }
            for connection in table.connections.values {
                used -= connection.writers.values.reduce(0) { $0 + $1.capacity }
                used -= connection.spares.reduce(0) { $0 + $1.capacity }
            }
            return used
        } - hosts[index].member.steps.values.reduce(0) { $0 + $1.parityByteCount }
            - hosts[index].member.rebuildingByteCount
    }

    /// What each member knows of a save, for messages.
    func picture(of save: Save) -> String {
        hosts.indices.map { index in
            guard let state = hosts[index].member.steps[save.step] else { return "\(index): unknown" }
            let known = state.descriptors.map { $0.map { "\($0.items.count)" } ?? "?" }.joined()
            let parities = state.parities.map { "\($0.stripe):\($0.isComplete)" }.joined(separator: ",")
            return "\(index): files \(known) here \(state.isComplete) parity \(parities) "
                + (state.failure.map { "\($0)" } ?? "")
        }.joined(separator: "; ")
    }
}
