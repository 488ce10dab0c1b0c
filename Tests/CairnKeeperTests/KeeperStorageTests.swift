import CairnBase
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

import CairnKeeper

@Suite struct KeeperStorageTests {
    @Test(arguments: StorageConformance.all)
    func aKeeperIsAStorageLikeAnyOther(_ conformance: StorageConformance) throws {
        let keeper = try TestKeeper()
        try conformance.check(try keeper.storage())
    }

    @Test func anObjectStaysWhenItsProcessIsGoneAndAnUnfinishedOneNeverAppears() throws {
        let keeper = try TestKeeper()
        do {
            let storage = try keeper.storage()
            try storage.publish(Array("kept".utf8), as: "kept")
            let writer = try storage.create("lost", byteCount: 4)
            try writer.write(Array("lost".utf8), at: 0)
            // As a killed process: the connection ends, and nobody has discarded anything.
            storage.abandon()
            withExtendedLifetime(writer) {}
        }
        try waitUntil("the keeper notices") { keeper.job()?.writers == 0 && keeper.job()?.connections == 0 }
        let storage = try keeper.storage()
        #expect(try storage.list("").map(\.key) == ["kept"])
        #expect(try storage.readAll("kept") == Array("kept".utf8))
        #expect(keeper.keeper.status.abandoned == 1)
    }

    @Test func theFilesOfACheckpointThatNobodyCommitsGoWithTheLastProcess() throws {
        let keeper = try TestKeeper()
        let (one, other) = (try keeper.storage(), try keeper.storage())
        try one.publish([1], as: "step-00000001/rank-00000.safetensors")
        try one.publish([1], as: "step-00000002/rank-00000.safetensors")
        try one.publish([2], as: "step-00000002/manifest.json")
        one.abandon()
        try waitUntil("one is gone") { keeper.job()?.connections == 1 }
        // The other may be about to commit.
        #expect(try other.list("").count == 3)
        other.abandon()
        try waitUntil("both are gone") { keeper.job()?.connections == 0 }
        #expect(
            try keeper.storage().list("").map(\.key) == [
                "step-00000002/manifest.json", "step-00000002/rank-00000.safetensors",
            ])
    }

    @Test func memoryIsUsedAgainAndWhatWasNotWrittenReadsAsZeros() throws {
        let keeper = try TestKeeper()
        let storage = try keeper.storage()
        let old = patternBytes(2 << 20)
        try storage.write(old, as: "big", reserving: old.count)
        try storage.delete(["big"])
        let used = keeper.keeper.status.usedMemory
        #expect(used >= 2 << 20, "the memory is kept for the next object")
        let writer = try storage.create("big", byteCount: 2 << 20)
        try writer.write([1, 2, 3], at: 1 << 20)
        try writer.write([4], at: 5)
        try writer.finish(byteCount: (1 << 20) + 100)
        #expect(keeper.keeper.status.usedMemory == used)
        var expected = [UInt8](repeating: 0, count: (1 << 20) + 100)
        expected.replaceSubrange(1 << 20..<(1 << 20) + 3, with: [1, 2, 3])
        expected[5] = 4
        #expect(try storage.readAll("big") == expected)
    }

    @Test func whatIsMappedKeepsItsBytesWhateverComesAfter() throws {
        let keeper = try TestKeeper()
        let (writing, reading) = (try keeper.storage(), try keeper.storage())
        let old = patternBytes(2 << 20, salt: 1)
        try writing.write(old, as: "big", reserving: old.count)
        let mapping = try #require(try reading.open("big").map())
        let file = try reading.open("big")
        for salt in 2..<6 {
            try writing.write(patternBytes(2 << 20, salt: salt), as: "big", reserving: 2 << 20)
            try writing.delete(["big"])
        }
        // Not even a reader whose connection is gone sees other bytes.
        reading.abandon()
        try waitUntil("the reader is gone") { keeper.job()?.connections == 1 }
        for salt in 6..<10 { try writing.write(patternBytes(2 << 20, salt: salt), as: "big", reserving: 2 << 20) }
        let bytes = mapping.bytes.withUnsafeBytes { Array($0) }
        #expect(bytes == old)
        #expect(try file.bytes(in: 0..<old.count) == old)
    }

    @Test func thereIsAnEndToTheMemoryAndTheRefusalSaysSo() throws {
        let keeper = try TestKeeper(memory: 8 << 20)
        let storage = try keeper.storage()
        try storage.write(patternBytes(3 << 20), as: "first", reserving: 3 << 20)
        try storage.write(patternBytes(3 << 20), as: "second", reserving: 3 << 20)
        let refused = try #require(refusal { _ = try storage.create("third", byteCount: 3 << 20) })
        #expect(refused.code == .noSpace)
        #expect("\(refused)".contains("third") && "\(refused)".contains("--memory"))
        // What is there stays, and what is deleted makes room, also for an object of another size.
        try storage.delete(["first"])
        try storage.write(patternBytes(5 << 20), as: "third", reserving: 5 << 20)
        #expect(try storage.readAll("second") == patternBytes(3 << 20))
        #expect(keeper.keeper.status.refused == 1)
        #expect(keeper.keeper.status.usedMemory <= 8 << 20)
    }

    @Test func anObjectOfUnknownSizeGrows() throws {
        let keeper = try TestKeeper()
        let storage = try keeper.storage()
        let bytes = patternBytes(5 << 20, salt: 3)
        // The memory of an older object is under it.
        try storage.write(patternBytes(1 << 20), as: "old", reserving: 1 << 20)
        try storage.delete(["old"])
        let writer = try storage.create("grown", byteCount: nil)
        for start in stride(from: 0, to: bytes.count, by: 300_000) {
            try writer.write(Array(bytes[start..<min(start + 300_000, bytes.count)]), at: start)
        }
        try writer.finish(byteCount: bytes.count)
        #expect(try storage.readAll("grown") == bytes)
    }

    @Test func jobsDoNotSeeEachOther() throws {
        let keeper = try TestKeeper()
        let (one, other) = (try keeper.storage("one"), try keeper.storage("other"))
        try one.publish([1], as: "key")
        #expect(try other.list("").isEmpty)
        #expect(refusal { _ = try other.open("key") }?.code == .notFound)
        try other.publish([2], as: "key")
        try other.delete(["key"])
        #expect(try one.readAll("key") == [1])
    }

    @Test func aKeeperThatWasStartedAgainIsFoundAndWhatWasBeingWrittenIsNot() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("keeper")
        let first = try Keeper(at: path, options: KeeperOptions(memory: 16 << 20))
        let storage = try KeeperStorage(job: "job", at: path)
        try storage.publish([1], as: "key")
        let writer = try storage.create("other", byteCount: 10)
        first.stop()
        let failed = refusal { _ = try storage.list("") }
        #expect(failed?.code == .inputOutput)
        #expect(refusal { _ = try storage.list("") }?.code == .notFound, "nobody listens there")
        let second = try Keeper(at: path, options: KeeperOptions(memory: 16 << 20))
        defer { second.stop() }
        #expect(try storage.list("").isEmpty)
        #expect(refusal { try writer.finish(byteCount: 10) }?.code == .inputOutput)
        try storage.publish([2], as: "key")
        #expect(try storage.readAll("key") == [2])
    }

    @Test func aKeeperThatDoesNotAnswerHoldsNobodyUp() throws {
        let directory = try TemporaryDirectory()
        let listener = try KeeperSocket(listeningAt: directory.path("deaf"), mode: 0o600)
        let error = refusal {
            _ = try KeeperStorage(job: "job", at: listener.path, timeout: .milliseconds(50))
        }
        #expect(error?.code == .inputOutput)
        #expect(error.map { "\($0)".contains("does not answer") } == true)
    }

    @Test func onlyOneKeeperListensAtAPathAndADeadOneIsNotInTheWay() throws {
        let keeper = try TestKeeper()
        let second = refusal { _ = try Keeper(at: keeper.keeper.path, options: KeeperOptions(memory: 1 << 20)) }
        #expect(second?.code == .alreadyExists)
        let directory = try TemporaryDirectory()
        do { _ = try KeeperSocket(listeningAt: directory.path("dead"), mode: 0o600) }
        let third = try Keeper(at: directory.path("dead"), options: KeeperOptions(memory: 1 << 20))
        third.stop()
    }

    @Test func whoeverIsNotThereIsToldHowToStartOne() throws {
        let error = try #require(refusal { _ = try KeeperStorage(job: "job", at: "/nonexistent/keeper") })
        #expect(error.code == .notFound)
        #expect("\(error)".contains("cairn keep"))
        let keeper = try TestKeeper()
        for job in ["a b", "", "a/b", String(repeating: "j", count: 129)] {
            #expect(refusal { _ = try keeper.storage(job) }?.code == .invalidArgument)
        }
    }

    @Test func writtenRangesLeaveTheirGaps() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var ranges = WrittenRanges()
            var written = [Bool](repeating: false, count: 100)
            for _ in 0..<Int.random(in: 0..<12, using: &generator) {
                let start = Int.random(in: 0...100, using: &generator)
                let end = Int.random(in: start...100, using: &generator)
                ranges.add(start..<end)
                for index in start..<end { written[index] = true }
            }
            var gaps = [Bool](repeating: false, count: 100)
            for gap in ranges.gaps(in: 0..<100) { for index in gap { gaps[index] = true } }
            #expect(gaps == written.map { !$0 }, "seed \(seed)")
        }
    }
}
