#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTesting
import Testing

/// Two saves of one step that know nothing of each other, such as a trainer and one that was believed dead.
@Suite struct ConcurrentSaveTests {
    enum Act: String, CaseIterable, Sendable {
        case firstBegins, firstWrites, firstCommits, secondBegins, secondWrites, secondEnds
    }

    struct Case: Sendable, CustomStringConvertible {
        var order: [Act]
        var hasOlder: Bool
        var replacing: [Bool]
        var secondCommits: Bool

        var description: String {
            let acts = order.map(\.rawValue).joined(separator: ", ")
            return "\(acts), older \(hasOlder), replacing \(replacing), second commits \(secondCommits)"
        }

        static var all: [Case] {
            var orders: [[Act]] = []
            func extend(_ order: [Act], _ first: ArraySlice<Act>, _ second: ArraySlice<Act>) {
                if first.isEmpty, second.isEmpty { orders.append(order) }
                if let next = first.first { extend(order + [next], first.dropFirst(), second) }
                if let next = second.first { extend(order + [next], first, second.dropFirst()) }
            }
            extend([], Act.allCases[..<3], Act.allCases[3...])
            var cases: [Case] = []
            for order in orders {
                for secondCommits in [false, true] {
                    for replacing in [[false, false], [false, true], [true, false], [true, true]] {
                        cases.append(
                            Case(
                                order: order, hasOlder: false, replacing: replacing, secondCommits: secondCommits))
                    }
                    cases.append(
                        Case(
                            order: order, hasOlder: true, replacing: [true, true], secondCommits: secondCommits))
                }
            }
            return cases
        }
    }

    @Test(arguments: Case.all) func whateverTheOrderTheCommittedCheckpointIsOneOfTheTwoWhole(_ item: Case) throws {
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "memory")
        let states = try (1...3).map { try smallState($0) }
        // Files of another save that is still running: they must not be touched.
        let third = try store.beginSave(step: 1, rankCount: 2, options: repeatableOptions(3))
        try writeTwoRanks(of: states[2], to: third)
        let thirdKeys = try storage.list("").map(\.key)
        var expected: TrainingState?
        if item.hasOlder {
            expected = try smallState(4)
            try store.save(smallState(4), step: 1, options: repeatableOptions(4))
        }
        var sessions: [SaveSession?] = [nil, nil]
        func begin(_ index: Int) throws {
            do throws(CairnError) {
                let options = repeatableOptions(index + 1) { $0.replacing = item.replacing[index] }
                sessions[index] = try store.beginSave(step: 1, rankCount: 2, options: options)
            } catch {
                #expect(error.code == .alreadyExists && expected != nil && !item.replacing[index])
            }
        }
        func commit(_ index: Int) throws {
            guard let session = sessions[index] else { return }
            do {
                try session.commit()
                #expect(expected == nil || item.replacing[index])
                expected = states[index]
            } catch let error as CairnError {
                #expect(error.code == .alreadyExists && expected != nil && !item.replacing[index], "\(error)")
                session.cancel()
            }
        }
        for act in item.order {
            switch act {
            case .firstBegins: try begin(0)
            case .secondBegins: try begin(1)
            case .firstWrites: if let session = sessions[0] { try writeTwoRanks(of: states[0], to: session) }
            case .secondWrites: if let session = sessions[1] { try writeTwoRanks(of: states[1], to: session) }
            case .firstCommits: try commit(0)
            case .secondEnds: if item.secondCommits { try commit(1) } else { sessions[1]?.cancel() }
            }
            guard let expected else {
                #expect(try store.steps().isEmpty)
                continue
            }
            #expect(try store.open(step: 1).verify().isValid, "after \(act)")
            #expect(try store.load(step: 1) == expected, "after \(act)")
        }
        let left = Set(try storage.list("").map(\.key))
        #expect(left == (try store.committedKeys()).union(thirdKeys), "nothing of the ended saves is left")
        third.cancel()
        #expect(Set(try storage.list("").map(\.key)) == (try store.committedKeys()))
    }

    @Test func theCollectorTakesADeadSaveAndLeavesOneThatIsGoingOn() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path)
        try store.save(smallState(1), step: 1, options: repeatableOptions(1))
        try writeTwoRanks(
            of: smallState(2), to: store.beginSave(step: 1, rankCount: 2, options: repeatableOptions(2) { $0.replacing = true }))
        let dead = Set(try store.storage.list("").map(\.key)).subtracting(try store.committedKeys())
        for key in dead {
            var times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
            #expect(utimes(directory.path + "/" + key, &times) == 0)
        }
        let going = try store.beginSave(step: 1, rankCount: 2, options: repeatableOptions(3) { $0.replacing = true })
        try writeTwoRanks(of: smallState(3), to: going)
        let report = try store.prune(RetentionPolicy())
        #expect(Set(report.debris) == dead && dead.count == 2)
        try going.commit()
        #expect(try store.load(step: 1) == smallState(3))
    }

    @Test func deletingACheckpointLeavesASaveThatIsGoingOn() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(smallState(1), step: 1, options: repeatableOptions(1))
        let going = try store.beginSave(step: 1, rankCount: 2, options: repeatableOptions(3) { $0.replacing = true })
        try writeTwoRanks(of: smallState(3), to: going)
        try store.delete(step: 1)
        #expect(try store.steps().isEmpty)
        try going.commit()
        #expect(try store.load(step: 1) == smallState(3))
    }
}
