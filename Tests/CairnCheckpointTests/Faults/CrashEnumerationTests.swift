import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import Synchronization
import Testing

/// A life of a store, with the power going at every call: what was reported as saved is there, whole, and nothing else.
@Suite struct CrashEnumerationTests {
    /// One thing that a training run does with its store, and what becomes of the steps by it.
    private struct Operation: Sendable {
        var name: String
        /// `nil` for a step that has no checkpoint afterwards.
        var effect: [Int: TrainingState?]
        var run: @Sendable (CheckpointStore) throws -> Void
    }

    private typealias Contents = [Int: TrainingState]

    private static let seeds: Range<UInt64> = 0..<5

    private static func life() throws -> [Operation] {
        func save(_ seed: Int, step: Int, _ change: (inout SaveOptions) -> Void = { _ in }) throws -> Operation {
            let (state, options) = (try smallState(seed), repeatableOptions(seed, change))
            return Operation(name: "save \(seed) as \(step)", effect: [step: state]) {
                try $0.save(state, step: step, options: options)
            }
        }
        func saveTwo(_ seed: Int, step: Int, _ change: (inout SaveOptions) -> Void = { _ in }) throws -> Operation {
            let (state, options) = (try smallState(seed), repeatableOptions(seed, change))
            return Operation(name: "save \(seed) as \(step) in two ranks", effect: [step: state]) {
                try saveInTwoRanks(state, step: step, in: $0, options)
            }
        }
        let abandoned = try smallState(90)
        return [
            try save(1, step: 10), try save(2, step: 20), try save(3, step: 20) { $0.replacing = true },
            try saveTwo(4, step: 30), try save(5, step: 40) { $0.compression = .zstd() },
            Operation(name: "prune", effect: [10: nil, 20: nil]) {
                _ = try $0.prune(RetentionPolicy(keepLast: 2), debrisAge: -10)
            },
            Operation(name: "cancel", effect: [:]) { store in
                let session = try store.beginSave(step: 50, rankCount: 2, options: repeatableOptions(90))
                try writeTwoRanks(of: abandoned, to: session)
                session.cancel()
            },
            try save(6, step: 50), try saveTwo(7, step: 50) { $0.replacing = true },
            try save(8, step: 50) {
                $0.replacing = true; $0.compression = .zstd()
            },
            Operation(name: "delete", effect: [40: nil]) { try $0.delete(step: 40) },
            try saveTwo(9, step: 60) { $0.compression = .zstd() },
        ]
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func whateverTheDiskKeepsEveryCheckpointIsTheOldOrTheNewOneWhole(_ writing: LocalWriting) throws {
        let life = try Self.life()
        let disk = SimulatedDisk()
        let store = CheckpointStore(on: disk, writing: writing)
        disk.startHistory()
        // What is there after so many operations.
        var contents: [Contents] = [[:]]
        for operation in life {
            try operation.run(store)
            disk.passMilestone()
            var next = contents[contents.count - 1]
            for (step, state) in operation.effect { next[step] = state }
            contents.append(next)
        }
        let (points, expected, fresh) = (disk.crashPoints, contents, try smallState(1000))
        let count = Atomic(0)
        try ThreadPool.shared.forEach(points.count) { index in
            let point = points[index]
            let before = expected[point.milestone]
            let after = expected[min(point.milestone + 1, expected.count - 1)]
            for policy in CrashPolicy.allCases {
                let isSeeded = policy != .losePending && policy != .keepPending
                for seed in isSeeded ? Self.seeds : 0..<1 {
                    let name = point.milestone < life.count ? life[point.milestone].name : "the end"
                    let place = "\(name): \(point), \(policy), seed \(seed)"
                    do {
                        let survivor = CheckpointStore(on: point.crash(policy, seed: seed))
                        let found = try check(survivor, before, after, place)
                        // Now and then the run saves the very step again that it lost.
                        let lost = life[min(point.milestone, life.count - 1)].effect.keys.max()
                        let retried = seed % 2 == 1 ? lost : nil
                        try recover(survivor, found, saving: fresh, as: retried ?? 1000, place)
                    } catch {
                        Issue.record("\(place): \(error)")
                    }
                    count.add(1, ordering: .relaxed)
                }
            }
        }
        let total = count.load(ordering: .relaxed)
        print("crash enumeration, \(writing): \(total) crashes at \(points.count) points of \(life.count) operations")
        #expect(total > 3000)
    }

    /// What the store holds after the crash, all of it loaded.
    private func check(
        _ store: CheckpointStore, _ before: Contents, _ after: Contents, _ place: String
    ) throws -> Contents {
        var found: Contents = [:]
        for step in try store.steps() {
            let state = try store.load(step: step, options: sequentialLoad)
            #expect(state == before[step] || state == after[step], "\(place): step \(step) is a mixture")
            found[step] = state
        }
        for step in before.keys where after[step] != nil {
            #expect(found[step] != nil, "\(place): step \(step) was reported as saved and is gone")
        }
        if let newest = found.keys.max() {
            let latest = try store.loadLatest(options: sequentialLoad)
            #expect(latest.step == newest && latest.skipped.isEmpty, "\(place)")
            #expect(latest.state == found[newest], "\(place)")
        }
        if let reported = before.keys.filter({ after[$0] != nil }).max() {
            #expect((found.keys.max() ?? -1) >= reported, "\(place)")
        }
        return found
    }

    /// The run continues: a save works, and the collector leaves what is committed and nothing else.
    private func recover(
        _ store: CheckpointStore, _ found: Contents, saving state: TrainingState, as step: Int, _ place: String
    ) throws {
        try store.save(state, step: step, options: repeatableOptions(1000) { $0.replacing = true })
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        let left = Set(try store.storage.list("").map(\.key))
        #expect(left == (try store.committedKeys()), "\(place): debris")
        var expected = found
        expected[step] = state
        #expect(try store.steps() == expected.keys.sorted(), "\(place)")
        for (step, state) in expected {
            #expect(try store.load(step: step, options: sequentialLoad) == state, "\(place): step \(step)")
        }
    }
}
