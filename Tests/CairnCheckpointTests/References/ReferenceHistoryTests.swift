import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Saves that refer to earlier ones, and those who delete: nothing that a checkpoint needs is ever removed.
@Suite struct ReferenceHistoryTests {
    /// How many random histories there are; `CAIRN_HISTORIES` sets another number.
    private static let historyCount = getenv("CAIRN_HISTORIES").flatMap { Int(String(cString: $0)) } ?? 300

    private static func tensor(_ index: Int, _ version: Int) -> Tensor {
        Tensor((0..<[900, 700, 300, 40][index]).map { Float(version * 7 + index * 1000 + $0) })
    }

    private static func state(_ versions: [Int]) -> TrainingState {
        var state = TrainingState()
        for (index, version) in versions.enumerated() { state.set(tensor(index, version), for: "t\(index)") }
        return state
    }

    private static var options: SaveOptions {
        var options = FrozenSample.options
        options.concurrency = 1
        return options
    }

    /// A save that has written its file and is not decided.
    private struct OpenSave {
        var session: SaveSession
        var step: Int
        var state: TrainingState
    }

    @Test(.tags(.slow)) func whatIsCommittedIsReadWhateverElseHappens() throws {
        let seeds = SystemRandomNumberGenerator.firstSeed(of: Self.historyCount)
        for seed in seeds {
            do {
                try DeletionLock.$waiting.withValue(.zero) { try Self.history(seed) }
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
        }
    }

    private static func history(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let storage = MemoryStorage()
        var store = CheckpointStore(storage: storage, name: "run")
        var versions = [0, 0, 0, 0]
        var saved: [Int: TrainingState] = [:]
        var open: [OpenSave] = []
        for event in 0..<30 {
            for index in versions.indices where Int.random(in: 0..<4, using: &random) == 0 && index > 0 {
                versions[index] += 1
            }
            let step = Int.random(in: 1...6, using: &random)
            let state = state(versions)
            var options = options
            options.replacing = true
            options.reusesUnchanged = Int.random(in: 0..<5, using: &random) > 0
            switch Int.random(in: 0..<10, using: &random) {
            case 0, 1, 2:
                try store.save(state, step: step, options: options)
                saved[step] = state
            case 3, 4:
                let session = try store.beginSave(step: step, rankCount: 1, options: options)
                let content = SaveContent(state)
                try session.setGlobal(of: content)
                try session.write(content)
                open.append(OpenSave(session: session, step: step, state: state))
            case 5:
                guard !open.isEmpty else { continue }
                let save = open.remove(at: Int.random(in: open.indices, using: &random))
                if Bool.random(using: &random) {
                    try save.session.commit()
                    saved[save.step] = save.state
                } else {
                    save.session.cancel()
                }
            case 6, 7:
                let policy = RetentionPolicy(keepLast: Int.random(in: 1...3, using: &random))
                for step in try store.prune(policy).deleted { saved[step] = nil }
            case 8:
                guard let step = saved.keys.sorted().randomElement(using: &random) else { continue }
                if Bool.random(using: &random) {
                    try store.delete(step: step)
                    saved[step] = nil
                } else {
                    try store.pack(step: step)
                }
            default:
                // Another process, which knows nothing of the tensors.
                store = CheckpointStore(storage: storage, name: "run")
            }
            let steps = try store.steps()
            guard steps == saved.keys.sorted() else {
                throw CairnError(.mismatch, "other steps are there", .init(expected: "\(saved.keys.sorted())", found: "\(steps)"))
            }
            for step in steps where try store.load(step: step) != saved[step] {
                throw CairnError(.mismatch, "step \(step) is another after event \(event)")
            }
        }
        for save in open { save.session.cancel() }
        // With nothing running, only what checkpoints need stays.
        _ = try store.prune(RetentionPolicy(), debrisAge: -1)
        let needed = Set(try store.steps().flatMap { try store.open(step: $0).manifest.neededKeys })
        for entry in try storage.list("") where !entry.key.hasSuffix("manifest.json") && !needed.contains(entry.key) {
            throw CairnError(.mismatch, "a file is left that nothing needs", .init(file: entry.key))
        }
    }

    /// A save with a whole prune, deletion or replacement by another process before each of its calls; and the other way round.
    @Test func whoComesBetweenTakesNothingAway() throws {
        let old = Self.state([1, 1, 1, 1])
        let new = Self.state([1, 1, 1, 2])
        let others: [@Sendable (CheckpointStore) throws -> Void] = [
            { _ = try $0.prune(RetentionPolicy(keepLast: 1)) },
            { try $0.delete(step: 2) },
            { store in
                var options = Self.options
                options.replacing = true
                options.reusesUnchanged = false
                try store.save(Self.state([5, 5, 5, 5]), step: 2, options: options)
            },
            { store in
                // What takes the reference over, and then goes as well.
                try store.save(Self.state([1, 1, 1, 3]), step: 4, options: Self.options)
                try store.delete(step: 2)
            },
        ]
        for (number, other) in others.enumerated() {
            for call in 0..<200 {
                let memory = MemoryStorage()
                let first = CheckpointStore(storage: memory, name: "run")
                try first.save(old, step: 1, options: Self.options)
                try first.save(Self.state([1, 1, 1, 0]), step: 2, options: Self.options)
                let hooked = HookedStorage(memory)
                let store = CheckpointStore(storage: hooked, name: "run")
                hooked.before(call: call) { try other(CheckpointStore(storage: memory, name: "run")) }
                try DeletionLock.$waiting.withValue(.zero) {
                    try store.save(new, step: 3, options: Self.options)
                    #expect(try first.load(step: 3) == new, "other \(number) before call \(call)")
                    // The other way round: that save comes before a call of the other.
                    let again = MemoryStorage()
                    let seed = CheckpointStore(storage: again, name: "run")
                    try seed.save(old, step: 1, options: Self.options)
                    try seed.save(Self.state([1, 1, 1, 0]), step: 2, options: Self.options)
                    let slow = HookedStorage(again)
                    slow.before(call: call) {
                        try CheckpointStore(storage: again, name: "run").save(new, step: 3, options: Self.options)
                    }
                    try other(CheckpointStore(storage: slow, name: "run"))
                    if let failure = slow.failure { throw failure }
                    if try seed.steps().contains(3) {
                        #expect(try seed.load(step: 3) == new, "before call \(call) of other \(number)")
                    }
                }
                if let failure = hooked.failure { throw failure }
                if call > max(hooked.callCount, 60) { break }
            }
        }
    }

    @Test func whatASaveInProgressRefersToStays() throws {
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "run")
        try store.save(Self.state([1, 1, 1, 1]), step: 1, options: Self.options)
        let session = try store.beginSave(step: 2, rankCount: 1, options: Self.options)
        let content = SaveContent(Self.state([1, 1, 1, 2]))
        try session.setGlobal(of: content)
        try session.write(content)
        try store.delete(step: 1)
        #expect(try store.steps().isEmpty)
        _ = try store.prune(RetentionPolicy(keepLast: 1), debrisAge: 60)
        try session.commit()
        #expect(try store.load(step: 2) == Self.state([1, 1, 1, 2]))
        #expect(try storage.list("step-").allSatisfy { !$0.key.hasSuffix(".pin") })
    }

    @Test func twoThatDeleteGiveWayToEachOther() throws {
        let storage = MemoryStorage()
        let lock = try DeletionLock(storage)
        DeletionLock.$waiting.withValue(.zero) {
            let error = refusal { _ = try DeletionLock(storage) }
            #expect(error?.message.contains("another process is deleting") == true)
        }
        lock.release()
        try DeletionLock(storage).release()
        #expect(try storage.list("").isEmpty)
        // One of a process that no longer exists is passed over.
        let dead = #"{"schema":"cairn-deleting/1","machine":"elsewhere","process":1}"#
        try storage.publish(Array(dead.utf8), as: "deleting-0123456789abcdef.json")
        DeletionLock.$waiting.withValue(.zero) { #expect(refusal { _ = try DeletionLock(storage) } != nil) }
    }

    @Test(.tags(.crash)) func aCrashAtAnyPointOfASaveAndARetentionLosesNothing() throws {
        var options = Self.options
        options.concurrency = 1
        let first = Self.state([1, 1, 1, 1])
        let second = Self.state([1, 1, 1, 2])
        let third = Self.state([1, 1, 2, 3])
        let disk = SimulatedDisk()
        func store(on disk: SimulatedDisk) -> CheckpointStore {
            CheckpointStore(storage: LocalStorage(root: "/run", writing: .buffered, fileSystem: disk), name: "run")
        }
        try store(on: disk).save(first, step: 1, options: options)
        disk.startHistory()
        let running = store(on: disk)
        try running.save(second, step: 2, options: options)
        _ = try running.prune(RetentionPolicy(keepLast: 1))
        try running.save(third, step: 3, options: options)
        _ = try running.prune(RetentionPolicy(keepLast: 1))
        disk.passMilestone()
        let expected = [1: first, 2: second, 3: third]
        var seen = Set<Int>()
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in 0..<3 as Range<UInt64> {
                    let survivor = store(on: point.crash(policy, seed: seed))
                    let steps = try survivor.steps()
                    #expect(!steps.isEmpty, "\(point), \(policy), seed \(seed)")
                    for step in steps {
                        #expect(
                            try survivor.load(step: step) == expected[step], "\(point), \(policy), seed \(seed), step \(step)")
                    }
                    seen.formUnion(steps)
                    // The next process goes on: it deletes what is left, and saves.
                    _ = try survivor.prune(RetentionPolicy(keepLast: 1), debrisAge: 0)
                    guard let newest = try survivor.latest() else { continue }
                    #expect(try survivor.load(step: newest) == expected[newest], "\(point), \(policy), seed \(seed)")
                    try survivor.save(third, step: 9, options: options)
                    #expect(try survivor.load(step: 9) == third)
                }
            }
        }
        #expect(seen == [1, 2, 3])
    }
}

extension SystemRandomNumberGenerator {
    /// Seeds that differ from run to run; a failure names its own.
    fileprivate static func firstSeed(of count: Int) -> Range<UInt64> {
        let first = UInt64.random(in: 0..<1 << 40)
        return first..<first + UInt64(count)
    }
}
