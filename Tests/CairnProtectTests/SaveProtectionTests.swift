import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Saves that compute their parity of the state in memory while the file is written.
@Suite struct SaveProtectionTests {
    private func state(_ seed: UInt64, tensors: Int = 9) -> TrainingState {
        var generator = SeededGenerator(seed: seed)
        var state = TrainingState()
        for number in 0..<tensors {
            let count = Int.random(in: 0...9000, using: &generator)
            state.set(Tensor((0..<count).map { Float($0 &* 31 &+ number) / 7 }), for: "weight.\(number)")
        }
        state.set(Tensor([UInt8](repeating: 9, count: 40_001)), for: "bytes")
        state.set(.double(Double(seed)), for: "loss")
        return state
    }

    private func options(_ parity: Int = 2, columns: Int? = nil) -> ProtectionOptions {
        var options = Samples.options(parity, columns: columns)
        options.concurrency = 2
        return options
    }

    @Test(arguments: 0..<8 as Range<UInt64>)
    func aSaveComputesItsParityOfTheStateInMemory(seed: UInt64) throws {
        let storage = CountingStorage(MemoryStorage())
        let store = CheckpointStore(storage: storage, name: "run")
        let state = state(seed)
        let columns = seed % 2 == 0 ? 8 : 3
        storage.reset()
        let manifest = try store.save(state, step: 5, protection: options(2, columns: columns))
        #expect(storage.reads.byteCount < state.byteCount / 2, "seed \(seed): the file is read back")
        let protection = try #require(try store.protection(ofStep: 5))
        #expect(protection.columnCount == columns && protection.parityCount == 2)
        #expect(protection.fileNames == manifest.files.map(\.name) + ["manifest.json"])
        #expect(try protection.verify(concurrency: 1).isIntact, "seed \(seed)")
        // As many whole columns as there is parity.
        let whole = try Samples.contents(of: storage)
        let key = try #require(whole.keys.first { $0.contains("/rank-") })
        let bytes = try #require(whole[key])
        let length = bytes.count.dividedRoundingUp(by: columns)
        for first in 0..<columns {
            var changed = bytes
            for column in [first, (first + 1) % columns] {
                for place in column * length..<min(bytes.count, (column + 1) * length) { changed[place] ^= 0x3C }
            }
            try storage.publish(changed, as: key)
            if first == 1 { try storage.delete(["step-00000005/manifest.json"]) }
            // The manifest stands in the last column.
            let isBeyond = first == 1 && columns > 3
            if isBeyond {
                #expect(throws: CairnError.self) { try store.repair(step: 5) }
                try storage.publish(try #require(whole["step-00000005/manifest.json"]), as: "step-00000005/manifest.json")
            }
            try store.repair(step: 5)
            #expect(try Samples.contents(of: storage) == whole, "seed \(seed), columns from \(first) on")
        }
        #expect(try store.load(step: 5) == state)
    }

    @Test func whatIsCompressedOrSmallIsReadAgain() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "run")
        let state = state(3)
        try store.save(state, step: 1, options: SaveOptions(compression: .fast), protection: options())
        var small = TrainingState()
        small.set(Tensor([1, 2] as [Float]), for: "a")
        try store.save(small, step: 2, protection: options())
        try store.save(state, step: 3, protection: ProtectionOptions(parityCount: 1, layout: .files))
        for step in 1...3 { #expect(try store.protection(ofStep: step)?.verify(concurrency: 1).isIntact == true, "\(step)") }
        #expect(try store.protection(ofStep: 3)?.columnCount == 2)
    }

    @Test func savingAgainReplacesTheParityToo() throws {
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "run")
        try store.save(state(1), step: 1, protection: options())
        let old = try storage.list("").map(\.key)
        try store.save(state(2), step: 1, options: SaveOptions(replacing: true), protection: options(1))
        let now = try storage.list("").map(\.key)
        #expect(Set(old).intersection(now) == ["step-00000001/manifest.json"] && now.count == 3)
        #expect(refusal { try store.save(state(3), step: 1, protection: options()) }?.code == .alreadyExists)
        #expect(try Set(storage.list("").map(\.key)) == Set(now))
        #expect(refusal { try store.save(state(3), step: 9, protection: options(2, columns: 300)) }?.code == .invalidArgument)
        #expect(try Set(storage.list("").map(\.key)) == Set(now), "nothing is left of a save that was refused")
    }
}
