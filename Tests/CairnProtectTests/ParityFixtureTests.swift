#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// The committed checkpoint with parity: every later version must bring back what it loses.
@Suite struct ParityFixtureTests {
    private let fixture = LocalStorage(root: Repository.fixture("cairn/parity"))

    private func copy(_ store: LocalStorage, step: Int) throws -> MemoryStorage {
        let memory = MemoryStorage()
        for entry in try store.list(StepName.prefix(step)) { try memory.publish(store.readAll(entry.key), as: entry.key) }
        return memory
    }

    @Test func anyTwoFilesOfTheFixtureComeBack() throws {
        let whole = try Samples.contents(of: copy(fixture, step: 1600))
        let names = whole.keys.sorted()
        #expect(names.count == 7)
        for (position, first) in names.enumerated() {
            for second in names[(position + 1)...] where !(first.contains("parity") && second.contains("parity")) {
                let memory = try copy(fixture, step: 1600)
                try memory.delete([first, second])
                let store = CheckpointStore(storage: memory, name: "memory")
                try store.repair(step: 1600)
                #expect(try Samples.contents(of: memory) == whole, "\(first), \(second)")
                #expect(try store.open(step: 1600).verify().isValid)
            }
        }
    }

    @Test func parityOfTheSameFilesIsTheSameToTheByte() throws {
        let memory = try copy(fixture, step: 1600)
        let whole = try Samples.contents(of: memory)
        try Self.protect(memory, step: 1600, replacing: true)
        #expect(try Samples.contents(of: memory) == whole)
    }

    /// Writes protected checkpoints for readers of other languages: whole files in columns, and ranges.
    @Test(.enabled(if: getenv("CAIRN_FRESH_PARITY") != nil)) func writesFreshOnes() throws {
        let path = try #require(getenv("CAIRN_FRESH_PARITY").map { String(cString: $0) })
        for step in [1600, 800] {
            let memory = try copy(LocalStorage(root: Repository.fixture("cairn/v1")), step: step)
            try Self.protect(memory, step: step, replacing: false)
            let target = LocalStorage(root: path)
            for entry in try memory.list("") { try target.publish(memory.readAll(entry.key), as: entry.key) }
        }
    }

    private static func protect(_ storage: any Storage, step: Int, replacing: Bool) throws {
        var options = Samples.options(2, block: 4_096)
        options.replacing = replacing
        try CheckpointStore(storage: storage, name: "run").protect(step: step, options: options)
    }
}
