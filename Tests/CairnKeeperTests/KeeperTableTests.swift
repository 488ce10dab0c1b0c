import CairnBase
import CairnStorage
import CairnTesting
import Testing

import CairnKeeper

/// The keeper's decisions alone, without sockets: random histories beside a model.
@Suite struct KeeperTableTests {
    private struct Model {
        var objects: [KeeperTable.JobName: [String: Int]] = [:]
        var job: [Int: KeeperTable.JobName] = [:]
        var writers: [Int: (connection: Int, key: String, memory: KeptMemory)] = [:]
        /// What may still be mapped: memory that must never be given to a writer.
        var seen: [ObjectIdentifier: KeptMemory] = [:]
    }

    @Test(arguments: 0..<8)
    func anyHistoryLeavesWholeObjectsOfTheRightJobAndHonestCounts(_ part: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        for history in 0..<25 {
            try play(seed: seed &+ UInt64(part * 1000 + history))
        }
    }

    private func play(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var limits = KeeperLimits(memory: 200 << 10, memoryPerUser: 120 << 10)
        limits.leastSpare = 1
        limits.jobsPerUser = 3
        var table = KeeperTable(limits: limits)
        var model = Model()
        let jobs = (0..<2).flatMap { user in
            ["a", "b"].map { KeeperTable.JobName(user: UInt32(user), name: $0) }
        }
        for step in 0..<120 {
            let context = Comment(rawValue: "seed \(seed), step \(step)")
            let connection = model.job.keys.sorted().randomElement(using: &generator)
            switch Int.random(in: 0..<12, using: &generator) {
            case 0, 1:
                guard model.job.count < 6, let job = jobs.randomElement(using: &generator) else { continue }
                let number = try table.connect(.init(user: job.user, process: 1))
                try table.setJob(number, job, isObserver: false)
                model.job[number] = job
            case 2:
                guard let connection, let job = model.job.removeValue(forKey: connection) else { continue }
                table.disconnect(connection)
                for (number, writer) in model.writers where writer.connection == connection {
                    model.writers[number] = nil
                }
                if !model.job.values.contains(job) {
                    // Without a process, uncommitted files go.
                    model.objects[job] = model.objects[job]?.filter { key, _ in
                        key == "step-00000001/manifest.json" || !key.hasPrefix("step-00000001/")
                            || model.objects[job]?["step-00000001/manifest.json"] != nil
                    }
                }
            case 3...6:
                guard let connection else { continue }
                let key =
                    ["step-00000001/manifest.json", "step-00000001/r0", "step-00000001/r1", "x"]
                    .randomElement(using: &generator) ?? "x"
                let byteCount = Int.random(in: 0..<60_000, using: &generator)
                guard let reservation = try Self.reserve(&table, connection, key, byteCount) else { continue }
                switch reservation {
                case .recycled(let writer, let memory):
                    #expect(model.seen[ObjectIdentifier(memory)] == nil, context)
                    #expect(!model.writers.values.contains { $0.memory === memory }, context)
                    model.writers[writer] = (connection, key, memory)
                case .granted(let writer, let capacity):
                    #expect(capacity >= byteCount, context)
                    let memory = try KeptMemory(capacity: capacity, name: key)
                    table.provide(connection, writer: writer, memory: memory)
                    model.writers[writer] = (connection, key, memory)
                }
            case 7, 8:
                guard let number = model.writers.keys.sorted().randomElement(using: &generator),
                    let writer = model.writers.removeValue(forKey: number), let job = model.job[writer.connection]
                else { continue }
                let byteCount = Int.random(in: 0...writer.memory.capacity, using: &generator)
                try table.finish(writer.connection, writer: number, byteCount: byteCount, now: 1)
                model.objects[job, default: [:]][writer.key] = byteCount
            case 9:
                guard let number = model.writers.keys.sorted().randomElement(using: &generator),
                    let writer = model.writers.removeValue(forKey: number)
                else { continue }
                table.discard(writer.connection, writer: number)
            case 10:
                guard let connection, let job = model.job[connection],
                    let key = model.objects[job]?.keys.sorted().randomElement(using: &generator)
                else { continue }
                let (_, object) = try table.open(connection, key: key)
                #expect(object.byteCount == model.objects[job]?[key], context)
                model.seen[ObjectIdentifier(object.memory)] = object.memory
            default:
                guard let connection, let job = model.job[connection],
                    let key = model.objects[job]?.keys.sorted().randomElement(using: &generator)
                else { continue }
                try table.delete(connection, keys: [key])
                model.objects[job]?[key] = nil
            }
            try check(table, model, limits, context)
        }
    }

    /// `nil` where there is no memory.
    private static func reserve(
        _ table: inout KeeperTable, _ connection: Int, _ key: String, _ byteCount: Int
    ) throws -> KeeperTable.Reservation? {
        do throws(CairnError) {
            return try table.reserve(connection, key: key, byteCount: byteCount)
        } catch  where error.code == .noSpace {
            return nil
        }
    }

    private func check(
        _ table: KeeperTable, _ model: Model, _ limits: KeeperLimits, _ context: Comment
    ) throws {
        for (job, objects) in table.jobs {
            #expect(objects.mapValues(\.byteCount) == model.objects[job] ?? [:], context)
        }
        var used = 0
        for objects in table.jobs.values { for object in objects.values { used += object.memory.capacity } }
        for connection in table.connections.values {
            used += connection.writers.values.reduce(0) { $0 + $1.capacity }
            used += connection.spares.reduce(0) { $0 + $1.capacity }
        }
        #expect(table.usedByteCount == used, context)
        #expect(used <= limits.memory, context)
        for (user, byteCount) in table.used { #expect(byteCount <= limits.memoryPerUser, "user \(user), \(context)") }
    }

    @Test func aJobOfAnotherUserIsAnotherJob() throws {
        var table = KeeperTable(limits: KeeperLimits(memory: 1 << 20, memoryPerUser: 1 << 20))
        let one = try table.connect(.init(user: 1, process: 1))
        let other = try table.connect(.init(user: 2, process: 2))
        try table.setJob(one, .init(user: 1, name: "job"), isObserver: false)
        try table.setJob(other, .init(user: 2, name: "job"), isObserver: false)
        guard case .granted(let writer, let capacity) = try table.reserve(one, key: "key", byteCount: 5) else {
            Issue.record("there was nothing to recycle")
            return
        }
        table.provide(one, writer: writer, memory: try KeptMemory(capacity: capacity, name: "key"))
        // A writer's number is its connection's alone.
        #expect(refusal { try table.finish(other, writer: writer, byteCount: 5, now: 1) }?.code == .invalidArgument)
        try table.finish(one, writer: writer, byteCount: 5, now: 1)
        #expect(refusal { _ = try table.open(other, key: "key") }?.code == .notFound)
        #expect(KeeperStatus(table, of: 2, path: "", process: 1, seconds: 0).jobs.map(\.user) == [2])
        #expect(KeeperStatus(table, of: nil, path: "", process: 1, seconds: 0).jobs.map(\.user) == [1, 2])
    }

    @Test func anObserverChangesNothing() throws {
        let keeper = try TestKeeper()
        try keeper.storage().publish([1], as: "key")
        let observer = try KeeperStorage(observing: "job", of: nil, at: keeper.keeper.path)
        #expect(try observer.readAll("key") == [1])
        #expect(refusal { try observer.publish([2], as: "key") }?.code == .accessDenied)
        #expect(refusal { try observer.delete(["key"]) }?.code == .accessDenied)
    }
}
