import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Synchronization
import Testing

/// Any damage of any file is an error or changes nothing; it is never a state that differs.
@Suite struct BitFlipTests {
    /// How many damaged checkpoints led to what.
    private struct Outcomes: Sendable {
        /// Loading failed with an error.
        var refused = 0
        /// Loading gave the exact state, and verification named the damage.
        var reported = 0
        /// Loading gave the exact state and verification found nothing.
        var unnoticed: [String] = []
        /// Loading gave another state.
        var wrong: [String] = []

        mutating func add(_ other: Outcomes) {
            refused += other.refused
            reported += other.reported
            unnoticed += other.unnoticed
            wrong += other.wrong
        }
    }

    private typealias Files = [String: [UInt8]]

    private static func checkpoint(_ seed: Int, scale: Int = 1) throws -> (files: Files, state: TrainingState) {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        let state = try smallState(seed, scale: scale)
        try saveInTwoRanks(state, step: 1, in: store, repeatableOptions(seed) { $0.compression = .zstd() })
        var files: Files = [:]
        for entry in try store.storage.list("") { files[entry.key] = try store.storage.readAll(entry.key) }
        return (files, state)
    }

    private static func store(_ files: Files) throws -> CheckpointStore {
        let storage = MemoryStorage()
        for (key, bytes) in files { try storage.publish(bytes, as: key) }
        return CheckpointStore(storage: storage, name: "memory")
    }

    private static func rankValues(_ store: CheckpointStore) throws -> [[NamedValue]] {
        let reader = try store.open(step: 1)
        return try (0..<2).map { try reader.values(ofRank: $0) }
    }

    /// Loads everything and looks at what comes of it.
    private static func look(
        _ store: CheckpointStore, _ state: TrainingState, _ place: @autoclosure () -> String,
        into outcomes: inout Outcomes
    ) {
        do {
            let loaded = try store.load(step: 1, options: sequentialLoad)
            let values = try rankValues(store)
            guard loaded == state, values == (0..<2).map({ [NamedValue(name: "rank", value: .integer($0))] }) else {
                outcomes.wrong.append(place())
                return
            }
            if try store.open(step: 1).verify(deep: true, concurrency: 1).isValid {
                outcomes.unnoticed.append(place())
            } else {
                outcomes.reported += 1
            }
        } catch is CairnError {
            outcomes.refused += 1
        } catch {
            outcomes.wrong.append("\(place()): \(error)")
        }
    }

    /// Runs `work` for each of `count` slices on the pool.
    private static func inParallel(
        _ count: Int, _ work: @escaping @Sendable (Int, inout Outcomes) throws -> Void
    ) throws -> Outcomes {
        let total = Mutex(Outcomes())
        try ThreadPool.shared.forEach(count) { index in
            var outcomes = Outcomes()
            try work(index, &outcomes)
            let found = outcomes
            total.withLock { $0.add(found) }
        }
        return total.withLock { $0 }
    }

    private static func require(_ outcomes: Outcomes, _ what: String) {
        print(
            "\(what): \(outcomes.refused) refused, \(outcomes.reported) harmless and reported, "
                + "\(outcomes.unnoticed.count) unnoticed, \(outcomes.wrong.count) wrong")
        #expect(outcomes.wrong.isEmpty, "\(outcomes.wrong.prefix(5))")
        #expect(outcomes.unnoticed.isEmpty, "\(outcomes.unnoticed.prefix(5))")
    }

    @Test func theSampleHasWhatTheFormatOffers() throws {
        let (files, state) = try Self.checkpoint(1)
        let store = try Self.store(files)
        #expect(files.count == 3)
        #expect(try store.load(step: 1) == state)
        #expect(try store.open(step: 1).verify().isValid)
        let text = try #require(files[store.rankKey(step: 1)])
        #expect(String(decoding: text, as: UTF8.self).contains("zstd-planes"))
        #expect(files.values.reduce(0) { $0 + $1.count } < 20_000)
    }

    @Test func everySingleFlippedBitIsRefused() throws {
        let (files, state) = try Self.checkpoint(1)
        let slice = 64
        var slices: [(key: String, range: Range<Int>)] = []
        for (key, bytes) in files.sorted(by: { $0.key < $1.key }) {
            for begin in stride(from: 0, to: bytes.count, by: slice) {
                slices.append((key, begin..<min(bytes.count, begin + slice)))
            }
        }
        let work = slices
        let outcomes = try Self.inParallel(work.count) { index, outcomes in
            let (key, range) = work[index]
            let store = try Self.store(files)
            guard var bytes = files[key] else { return }
            for position in range {
                for bit in 0..<8 {
                    bytes[position] ^= 1 << UInt8(bit)
                    try store.storage.publish(bytes, as: key)
                    Self.look(store, state, "\(key), byte \(position), bit \(bit)", into: &outcomes)
                    bytes[position] ^= 1 << UInt8(bit)
                }
            }
        }
        Self.require(outcomes, "flipped bits")
        #expect(outcomes.refused + outcomes.reported == files.values.reduce(0) { $0 + $1.count } * 8)
    }

    @Test func aFileCutAnywhereIsRefused() throws {
        let (files, state) = try Self.checkpoint(2)
        let keys = files.keys.sorted()
        for key in keys {
            guard let bytes = files[key] else { continue }
            let outcomes = try Self.inParallel(64) { part, outcomes in
                let store = try Self.store(files)
                for count in stride(from: part, to: bytes.count, by: 64) {
                    try store.storage.publish(Array(bytes[..<count]), as: key)
                    Self.look(store, state, "\(key) of \(count) bytes", into: &outcomes)
                }
            }
            Self.require(outcomes, "\(key) cut")
            #expect(outcomes.refused == bytes.count)
        }
    }

    @Test func aMissingFileIsNamed() throws {
        let (files, _) = try Self.checkpoint(2)
        for key in files.keys.sorted() {
            let store = try Self.store(files)
            try store.storage.delete([key])
            #expect { try store.load(step: 1) } throws: { error in
                guard let error = error as? CairnError else { return false }
                if key.hasSuffix("manifest.json") { return error.code == .notFound }
                return error.code.isUnusable && error.context.file?.contains(key) == true
            }
            guard !key.hasSuffix("manifest.json") else { continue }
            let damages = try store.open(step: 1).verify(deep: false).damages
            #expect(damages.first?.error.context.file?.contains(key) == true)
            #expect(throws: CairnError.self) { try store.loadLatest() }
        }
    }

    @Test func randomDamageIsRefused() throws {
        let seed: UInt64 = 20_240_607
        let (files, state) = try Self.checkpoint(3, scale: 4)
        let (other, _) = try Self.checkpoint(4, scale: 4)
        let keys = files.keys.sorted()
        let slices = 520, each = 200
        let outcomes = try Self.inParallel(slices) { slice, outcomes in
            var generator = SeededGenerator(seed: seed &+ UInt64(slice))
            let store = try Self.store(files)
            for number in 0..<each {
                var damaged: Files = [:]
                let key = keys[Int.random(in: 0..<keys.count, using: &generator)]
                guard let original = files[key] else { continue }
                var bytes = original
                switch Int.random(in: 0..<20, using: &generator) {
                case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator))
                case 1:
                    for _ in 0..<Int.random(in: 1...100, using: &generator) {
                        bytes.append(UInt8.random(in: 0...255, using: &generator))
                    }
                case 2:
                    // Files change places.
                    let second = keys[Int.random(in: 0..<keys.count, using: &generator)]
                    bytes = files[second] ?? []
                    damaged[second] = original
                case 3: bytes = other[key] ?? []
                case 4:
                    let begin = Int.random(in: 0..<bytes.count, using: &generator)
                    for index in begin..<min(bytes.count, begin + 512) { bytes[index] = 0 }
                default:
                    for _ in 0..<Int.random(in: 1...3, using: &generator) {
                        let index = Int.random(in: 0..<bytes.count, using: &generator)
                        bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                    }
                }
                damaged[key] = bytes
                damaged = damaged.filter { $0.value != files[$0.key] }
                guard !damaged.isEmpty else { continue }
                for (key, bytes) in damaged { try store.storage.publish(bytes, as: key) }
                Self.look(store, state, "seed \(seed), slice \(slice), number \(number), \(key)", into: &outcomes)
                for key in damaged.keys { try store.storage.publish(files[key] ?? [], as: key) }
            }
        }
        Self.require(outcomes, "random damage, seed \(seed)")
        #expect(outcomes.refused >= 100_000)
    }
}
