import CairnBase
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Synchronization
import Testing

/// Writes every object of another storage through blocks.
private struct StreamedStorage: Storage {
    let base: any Storage
    let blockByteCount: Int

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        WriteBehind(try base.create(key, byteCount: byteCount), blockByteCount: blockByteCount)
    }

    func open(_ key: String) throws(CairnError) -> any StorageFile { try base.open(key) }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try base.publish(bytes, as: key) }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try base.list(prefix) }
    func delete(_ keys: [String]) throws(CairnError) { try base.delete(keys) }
}

/// Takes writes of any size and notes what came; fails at a given one.
private final class NotingWriter: StorageWriter {
    struct Notes {
        var ranges: [Range<Int>] = []
        var underWay = 0
        var mostUnderWay = 0
        var isFinished = false
        var isDiscarded = false
    }

    let key = "object"
    let usefulConcurrency: Int
    let failing: Int?
    let notes = Mutex(Notes())

    init(usefulConcurrency: Int = 4, failing: Int? = nil) {
        self.usefulConcurrency = usefulConcurrency
        self.failing = failing
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        let count = bytes.byteCount
        let index = notes.withLock { notes in
            notes.ranges.append(offset..<offset + count)
            notes.underWay += 1
            notes.mostUnderWay = max(notes.mostUnderWay, notes.underWay)
            return notes.ranges.count
        }
        defer { notes.withLock { $0.underWay -= 1 } }
        if index == failing { throw CairnError(.inputOutput, "the device is gone", .init(file: key)) }
    }

    func startWriteback(at offset: Int, byteCount: Int) {}
    func finish(byteCount: Int) throws(CairnError) { notes.withLock { $0.isFinished = true } }
    func discard() { notes.withLock { $0.isDiscarded = true } }
}

@Suite struct WriteBehindTests {
    @Test(arguments: StorageConformance.all, [1000, 4096, 1 << 16])
    func conforms(_ conformance: StorageConformance, _ blockByteCount: Int) throws {
        try conformance.check(StreamedStorage(base: MemoryStorage(), blockByteCount: blockByteCount))
    }

    @Test(arguments: StorageConformance.all)
    func conformsOnADiskPastThePageCache(_ conformance: StorageConformance) throws {
        let directory = try TemporaryDirectory()
        let local = LocalStorage(root: directory.path, writing: .direct, reading: .direct)
        try conformance.check(StreamedStorage(base: local, blockByteCount: 8192))
    }

    @Test func smallStepsBecomeBlocksAtMultiplesOfTheirSize() throws {
        let target = NotingWriter()
        let writer = WriteBehind(target, blockByteCount: 1000)
        for offset in stride(from: 700, to: 4700, by: 16) {
            try writer.write(patternBytes(16), at: offset)
        }
        try writer.finish(byteCount: 4700)
        let ranges = target.notes.withLock { $0.ranges }.sorted { $0.lowerBound < $1.lowerBound }
        #expect(ranges == [700..<1000, 1000..<2000, 2000..<3000, 3000..<4000, 4000..<4700])
        #expect(target.notes.withLock { $0.isFinished })
    }

    @Test func noMoreBlocksAreUnderWayThanAreOfUse() throws {
        let target = NotingWriter(usefulConcurrency: 2)
        let writer = WriteBehind(target, blockByteCount: 64)
        try writer.write(patternBytes(64 * 500), at: 0)
        try writer.finish(byteCount: 64 * 500)
        #expect(target.notes.withLock { $0.mostUnderWay } <= 2)
        #expect(target.notes.withLock { $0.ranges.count } == 500)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func whatCameLastStays(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let storage = MemoryStorage()
        let writer = WriteBehind(try storage.create("object", byteCount: nil), blockByteCount: 256)
        var expected = [UInt8](repeating: 0, count: 3000)
        for step in 0..<200 {
            let begin = Int.random(in: 0..<3000, using: &random)
            let count = Int.random(in: 0...min(700, 3000 - begin), using: &random)
            let bytes = patternBytes(count, salt: step)
            expected.replaceSubrange(begin..<begin + count, with: bytes)
            try writer.write(bytes, at: begin)
            if step % 7 == 0 { writer.pause() }
        }
        try writer.finish(byteCount: 3000)
        #expect(try storage.open("object").bytes(in: 0..<3000) == expected, "seed \(seed)")
    }

    @Test(arguments: 1...6)
    func aFailureBehindTheBackComesOutAndNothingIsFinished(_ failing: Int) throws {
        let target = NotingWriter(failing: failing)
        let writer = WriteBehind(target, blockByteCount: 100)
        let error = try #require(throws: CairnError.self) {
            for offset in stride(from: 0, to: 600, by: 10) { try writer.write(patternBytes(10), at: offset) }
            try writer.finish(byteCount: 600)
        }
        #expect(error.code == .inputOutput)
        #expect(!target.notes.withLock { $0.isFinished })
        writer.discard()
        #expect(target.notes.withLock { $0.isDiscarded })
    }

    @Test func whoIsForgottenDiscards() throws {
        let target = NotingWriter()
        do {
            let writer = WriteBehind(target, blockByteCount: 100)
            try writer.write(patternBytes(1050), at: 0)
        }
        #expect(target.notes.withLock { $0.isDiscarded && $0.underWay == 0 })
    }
}
