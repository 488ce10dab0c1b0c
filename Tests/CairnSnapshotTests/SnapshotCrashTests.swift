import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Synchronization
import Testing

/// The power goes while several snapshots are in flight.
@Suite struct SnapshotCrashTests {
    /// Notes on the disk's history what has been reported as committed.
    private final class Witness: SnapshotObserver {
        let disk: SimulatedDisk
        let committed = Mutex<[Int]>([])

        init(_ disk: SimulatedDisk) { self.disk = disk }

        func snapshotEnded(_ report: SnapshotReport) {
            guard report.outcome.isCommitted else { return }
            committed.withLock { steps in
                steps.append(report.step)
                disk.passMilestone()
            }
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func whatWasReportedIsThereAndNothingIsHalf(_ writing: LocalWriting) throws {
        let disk = SimulatedDisk()
        let store = CheckpointStore(
            storage: LocalStorage(root: "/run", writing: writing, fileSystem: disk), name: "run")
        let witness = Witness(disk)
        var options = SnapshotOptions()
        options.maximumInFlight = 4
        options.observer = witness
        disk.startHistory()
        let pool = BufferPool(idleLimit: 1 << 22)
        let pipeline = SnapshotPipeline(store, pool: pool, options: options)
        var random = SimulationRandom(seed: 11)
        var state = try sampleState(&random, pool: pool, tensorCount: 4)
        var expected: [Int: TrainingState] = [:]
        for step in 1...6 {
            expected[step] = try deepCopy(state)
            pipeline.snapshot(state, step: step, options: smallChunks())
            for index in 0..<4 { try update(&state, "tensor.\(index)", adding: 3, pool: pool) }
        }
        #expect(pipeline.drain())
        let reported = witness.committed.withLock { $0 }
        #expect(reported.sorted() == Array(1...6))
        let (points, states) = (disk.crashPoints, expected)
        let count = Atomic(0)
        try ThreadPool.shared.forEach(points.count) { index in
            let point = points[index]
            for policy in CrashPolicy.allCases {
                for seed in UInt64(0)..<(policy == .losePending || policy == .keepPending ? 1 : 2) {
                    let place = "\(point), \(policy), seed \(seed)"
                    count.add(1, ordering: .relaxed)
                    do {
                        let survivor = CheckpointStore(
                            storage: LocalStorage(root: "/run", fileSystem: point.crash(policy, seed: seed)), name: "run")
                        let steps = try survivor.steps()
                        #expect(Set(steps).isSuperset(of: reported.prefix(point.milestone)), "\(place): lost")
                        for step in steps { #expect(try survivor.load(step: step) == states[step], "\(place): step \(step)") }
                        _ = try survivor.prune(RetentionPolicy(), debrisAge: -10)
                        let files = try survivor.storage.list("").filter { !$0.key.hasSuffix("timeline.json") }
                        #expect(files.count == 2 * steps.count, "\(place): debris")
                    } catch {
                        Issue.record("\(place): \(error)")
                    }
                }
            }
        }
        print("snapshots in flight, \(writing): \(count.load(ordering: .relaxed)) crashes at \(points.count) points")
        #expect(count.load(ordering: .relaxed) > 300)
    }

    @Test func aFullDiskFailsTheSnapshotAndARoomierOneTakesTheNext() throws {
        let disk = SimulatedDisk(capacity: 600_000)
        let store = CheckpointStore(storage: LocalStorage(root: "/run", fileSystem: disk), name: "run")
        let pipeline = SnapshotPipeline(store)
        var random = SimulationRandom(seed: 5)
        let state = try sampleState(&random, pool: nil)
        #expect(pipeline.snapshot(state, step: 1, options: smallChunks()).wait()?.isCommitted == true)
        guard case .failed(let error)? = pipeline.snapshot(state, step: 2, options: smallChunks()).wait() else {
            Issue.record("a disk of that size cannot take two")
            return
        }
        #expect(error.code == .noSpace)
        #expect(try store.load(step: 1) == state)
        disk.setCapacity(2_000_000)
        #expect(pipeline.snapshot(state, step: 3, options: smallChunks()).wait()?.isCommitted == true)
    }

    @Test func aDiskThatGoesAndComesBackCostsSnapshotsAndNotTheRun() throws {
        let disk = SimulatedDisk()
        let store = CheckpointStore(storage: LocalStorage(root: "/run", fileSystem: disk), name: "run")
        let pipeline = SnapshotPipeline(store)
        var random = SimulationRandom(seed: 6)
        let state = try sampleState(&random, pool: nil, tensorCount: 3)
        #expect(pipeline.snapshot(state, step: 1).wait()?.isCommitted == true)
        disk.inject(.failFromHereOn(5), atCall: disk.callCount + 3)
        guard case .failed? = pipeline.snapshot(state, step: 2).wait() else {
            Issue.record("the disk was gone")
            return
        }
        #expect(try store.load(step: 1) == state)
    }
}
