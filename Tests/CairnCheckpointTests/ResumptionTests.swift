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

/// What a training loop finds when it starts, whatever happened to its store, and that it never destroys what it could not
/// read.
@Suite struct ResumptionTests {
    /// What can have happened to a store with checkpoints of steps 40 and 50.
    enum Damage: CaseIterable {
        case flippedData, cutFile, lostFile, garbledManifest, emptyManifest, quarantine, unreadableQuarantine
    }

    private func store() -> CheckpointStore { CheckpointStore(storage: MemoryStorage(), name: "run") }

    private func filled(_ damages: [Int: Damage], _ store: CheckpointStore) throws {
        for step in [40, 50] { try store.save(smallState(step), step: step, options: repeatableOptions(step)) }
        for (step, damage) in damages { try inflict(damage, step, store) }
    }

    private func inflict(_ damage: Damage, _ step: Int, _ store: CheckpointStore) throws {
        let storage = store.storage
        let (rank, manifest) = (try store.rankKey(step: step), "step-000000\(step)/manifest.json")
        switch damage {
        case .flippedData:
            var bytes = try storage.readAll(rank)
            bytes[bytes.count - 1] ^= 1
            try storage.publish(bytes, as: rank)
        case .cutFile: try storage.publish(Array(try storage.readAll(rank).dropLast(7)), as: rank)
        case .lostFile: try storage.delete([rank])
        case .garbledManifest:
            var bytes = try storage.readAll(manifest)
            bytes[60] ^= 1
            try storage.publish(bytes, as: manifest)
        case .emptyManifest: try storage.publish([], as: manifest)
        case .quarantine, .unreadableQuarantine:
            let id = try store.open(step: step).manifest.saveID
            try store.quarantine(step: step, saveID: id, because: CairnError(.corrupted, "it was found damaged"))
            if damage == .unreadableQuarantine {
                try storage.publish([1, 2], as: "step-000000\(step)/quarantine.json")
            }
        }
    }

    /// Everything in a storage.
    private func contents(_ store: CheckpointStore) throws -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for entry in try store.storage.list("") { contents[entry.key] = try store.storage.readAll(entry.key) }
        return contents
    }

    /// The same without the quarantines that were not there before: what a restart says of checkpoints that it found damaged.
    private func contents(_ store: CheckpointStore, butNew before: [String: [UInt8]]) throws -> [String: [UInt8]] {
        try contents(store).filter { before[$0.key] != nil || !$0.key.hasSuffix("/" + StepName.quarantineName) }
    }

    /// A training loop as the README has it: where it continues from, or that it refuses to.
    private func train(_ store: CheckpointStore, to end: Int) throws -> (start: Int, setAside: [Int]) {
        var (state, step) = (try smallState(1), 0)
        switch try store.resume() {
        case .nothingYet: break
        case .resumed(let latest): (state, step) = (latest.state, latest.step)
        case .nothingUsable(let error, _): throw error
        }
        let start = step
        var aside: [Int] = []
        while step < end {
            step += 10
            state.set(Value(step), for: "step")
            if try store.save(state, step: step, options: SaveOptions(replacing: true)).setAside != nil { aside.append(step) }
        }
        return (start, aside)
    }

    @Test func noStoreAndAnEmptyOneAreANewRun() throws {
        let folder = try TemporaryDirectory()
        guard case .nothingYet = try CheckpointStore(path: folder.path + "/none").resume() else {
            Issue.record("a store that is not there is a new run")
            return
        }
        let empty = CheckpointStore(path: folder.path)
        #expect(try empty.resume().loaded() == nil)
        let error = #expect(throws: CairnError.self) { try empty.loadLatest() }
        #expect(error?.code == .notFound)
        #expect(try train(empty, to: 20).start == 0)
        #expect(try train(empty, to: 40).start == 20)
    }

    @Test(arguments: Damage.allCases)
    func aDamagedNewestIsPassedOverAndSetAsideWhenItsStepIsSavedAgain(_ damage: Damage) throws {
        let store = store()
        try filled([50: damage], store)
        let before = try contents(store)
        let loaded = try #require(try store.resume().loaded())
        #expect(loaded.step == 40 && loaded.skipped.map(\.step) == [50])
        #expect(try loaded.state == smallState(40))
        #expect(try contents(store, butNew: before) == before, "a load changes nothing")
        if [.flippedData, .cutFile, .lostFile].contains(damage) {
            #expect(try store.quarantine(ofStep: 50) != nil, "another process learns what was found")
        }
        let (start, aside) = try train(store, to: 60)
        #expect(start == 40 && aside == [50])
        #expect(try store.loadLatest().step == 60)
        #expect(try store.load(step: 50).value("step").int == 50)
        // Not a byte of the old checkpoint is lost: its files are where they were, its manifest under another name.
        let after = try contents(store)
        for (key, bytes) in before where key.hasPrefix("step-00000050/") {
            let kept = after.values.contains(bytes)
            #expect(kept, "\(key) is lost")
        }
        #expect(try store.setAside(step: 50).count == 1)
        #expect(try store.quarantine(ofStep: 50) == nil)
        // Nothing is collected that belongs to it, and nothing counts it.
        let report = try store.prune(RetentionPolicy(keepLast: 1), debrisAge: -10)
        #expect(report.kept == [60] && report.deleted == [40, 50])
        let left = try contents(store)
        for (key, bytes) in before where key.hasPrefix("step-00000050/") {
            let kept = left.values.contains(bytes)
            #expect(kept, "\(key) was collected")
        }
    }

    @Test(arguments: Damage.allCases)
    func aDamagedCheckpointNeedsNoLeaveToBeSavedOverAndGoesOnlyWhenThatIsAskedForByName(_ damage: Damage) throws {
        let store = store()
        try filled([50: damage], store)
        // Damage within the data is known once it has been loaded.
        _ = try store.resume()
        let old = try contents(store).filter { $0.key.hasPrefix("step-00000050/rank") }
        let saved = try store.save(smallState(3), step: 50, options: repeatableOptions(70))
        #expect(saved.setAside?.step == 50 && saved.setAside?.reason.isEmpty == false)
        #expect(try store.load(step: 50) == smallState(3))
        #expect(try old.allSatisfy { try contents(store)[$0.key] == $0.value })
        try inflict(damage, 50, store)
        _ = try? store.load(step: 50)
        _ = try store.resume()
        let options = repeatableOptions(71) { $0.discardsUnusable = true }
        let files = try contents(store).keys.filter { $0.hasPrefix("step-00000050/rank") }.count
        #expect(try store.save(smallState(4), step: 50, options: options).setAside == nil)
        #expect(try store.load(step: 50) == smallState(4))
        #expect(try contents(store).keys.filter { $0.hasPrefix("step-00000050/rank") }.count <= files + 1)
    }

    @Test func aSoundCheckpointStillNeedsLeaveAndIsReplacedWithIt() throws {
        let store = store()
        try filled([:], store)
        let error = #expect(throws: CairnError.self) { try store.save(smallState(3), step: 50) }
        #expect(error?.code == .alreadyExists)
        #expect(try store.save(smallState(3), step: 50, options: SaveOptions(replacing: true)).setAside == nil)
        #expect(try store.storage.list("step-00000050/").count == 2)
    }

    @Test(arguments: Damage.allCases)
    func whereNothingCanBeReadTheLoopStopsAndNothingIsTouched(_ damage: Damage) throws {
        let store = store()
        try filled([40: damage, 50: damage], store)
        let before = try contents(store)
        guard case .nothingUsable(let error, let skipped) = try store.resume() else {
            Issue.record("two damaged checkpoints are not nothing")
            return
        }
        #expect(error.code == .nothingUsable && skipped.map(\.step) == [50, 40])
        #expect("\(error)".contains("50, 40"))
        let thrown = #expect(throws: CairnError.self) { try train(store, to: 60) }
        #expect(thrown?.code == .nothingUsable)
        let latest = #expect(throws: CairnError.self) { try store.loadLatest() }
        #expect(latest?.code == .nothingUsable)
        var recovery = RecoveryOrder([CheckpointTier("disk", store: store)])
        recovery.isQuarantining = false
        let quiet = recovery
        let recoveryError = #expect(throws: CairnError.self) { try quiet.load() }
        #expect(recoveryError?.code == .nothingUsable)
        #expect(try contents(store, butNew: before) == before)
        // Even a loop that starts at 0 all the same destroys nothing.
        for step in [40, 50] {
            let saved = try store.save(smallState(5), step: step, options: SaveOptions(replacing: true))
            #expect(saved.setAside != nil)
        }
        let after = try contents(store)
        for (key, bytes) in before where !key.hasSuffix("quarantine.json") || damage == .quarantine {
            let kept = after.values.contains(bytes)
            #expect(kept, "\(key) is lost")
        }
    }

    @Test func aPathThatIsAFileIsThatErrorAtEveryEntryPoint() throws {
        let folder = try TemporaryDirectory()
        let path = folder.path + "/file"
        try LocalStorage(root: folder.path).publish([1], as: "file")
        for place in [path, path + "/below"] {
            let store = CheckpointStore(path: place)
            let recovery = RecoveryOrder([CheckpointTier("disk", store: store)])
            let calls: [(String, () throws -> Void)] = [
                ("steps", { _ = try store.steps() }), ("latest", { _ = try store.latest() }),
                ("list", { _ = try store.list() }), ("open", { _ = try store.open(step: 1) }),
                ("load", { _ = try store.load(step: 1) }), ("loadLatest", { _ = try store.loadLatest() }),
                ("resume", { _ = try store.resume() }), ("newestUsable", { _ = try store.newestUsable() }),
                ("prune", { _ = try store.prune(RetentionPolicy()) }),
                ("save", { try store.save(smallState(1), step: 1) }), ("recovery", { _ = try recovery.load() }),
                ("delete", { try store.delete(step: 1) }), ("rebuild", { try store.rebuildManifest(step: 1) }),
            ]
            for (name, call) in calls {
                let error = #expect(throws: CairnError.self, "\(name)") { try call() }
                #expect(error?.code == .notADirectory && error?.context.file == place, "\(name): \(error.map { "\($0)" } ?? "")")
            }
        }
    }

    @Test(.enabled(if: access("/proc/self", F_OK) == 0))
    func aPlaceThatCannotBeWrittenIsItsOwnError() throws {
        // No user can make directories in /proc.
        let store = CheckpointStore(path: "/proc/self/runs")
        #expect(try store.resume().loaded() == nil)
        let error = #expect(throws: CairnError.self) { try store.save(smallState(1), step: 1) }
        #expect(error?.context.file?.hasPrefix("/proc/self/runs") == true && error?.code != .notFound)
    }

    @Test(arguments: [EACCES, EPERM, EROFS])
    func missingRightsAreTheirOwnError(_ number: Int32) throws {
        let disk = SimulatedDisk()
        try filled([:], CheckpointStore(on: disk))
        let calls: [(SimulatedFault, (CheckpointStore) throws -> Void)] = [
            (.fail(number), { _ = try $0.resume() }), (.fail(number), { _ = try $0.loadLatest() }),
            (.fail(number), { _ = try $0.list() }), (.fail(number), { _ = try $0.newestUsable() }),
            (.failFromHereOn(number), { try $0.save(smallState(1), step: 60) }),
            (.failFromHereOn(number), { _ = try $0.prune(RetentionPolicy(keepLast: 1)) }),
        ]
        for (fault, work) in calls {
            let copy = disk.copy()
            copy.inject(fault, atCall: 1)
            let error = #expect(throws: CairnError.self) { try work(CheckpointStore(on: copy)) }
            #expect(error?.code == .accessDenied, "\(error.map { "\($0)" } ?? "")")
        }
    }

    @Test func aDiskThatFailsWhileOlderStepsAreReadIsNoDamage() throws {
        let disk = SimulatedDisk()
        try filled([50: .flippedData], CheckpointStore(on: disk))
        let whole = disk.copy()
        _ = try CheckpointStore(on: whole).resume(options: sequentialLoad)
        let calls = whole.callCount
        var troubles = 0
        for call in 1...calls {
            func failing() -> CheckpointStore {
                let copy = disk.copy()
                copy.inject(.fail(EIO), atCall: call)
                return CheckpointStore(on: copy)
            }
            do {
                let loaded = try failing().resume(options: sequentialLoad).loaded()
                #expect(loaded?.step == 40, "call \(call)")
            } catch let error as CairnError {
                troubles += 1
                #expect(error.code == .inputOutput && error.context.file != nil, "call \(call): \(error)")
            }
        }
        #expect(troubles >= calls / 2)
    }

    @Test func aStepWhoseFileIsLostOrShortIsNotCommittedAndNotChosen() throws {
        for damage in [Damage.lostFile, .cutFile] {
            let store = store()
            try filled([50: damage], store)
            let states = try store.list().map { summary in if case .committed = summary.state { true } else { false } }
            #expect(states == [true, false])
            let (step, skipped) = try store.newestUsable()
            #expect(step == 40 && skipped.first?.error.code == .incomplete)
            #expect(skipped.first?.error.context.file?.contains("rank-00000") == true)
            let report = try store.prune(RetentionPolicy(keepLast: 1))
            #expect(report.kept == [40] && report.deleted.isEmpty)
        }
    }
}
