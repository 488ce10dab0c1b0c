import CairnBase
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Objects written past the page cache: the bytes are the same, however writes are cut, placed and repeated.
@Suite struct DirectWritingTests {
    private static let page = 4096

    /// Writes of random lengths at random places, some of them in memory that is aligned and some over earlier ones, and
    /// what they make of an object.
    private func randomWrites(seed: UInt64) -> (writes: [(offset: Int, bytes: [UInt8])], object: [UInt8]) {
        var random = SimulationRandom(seed: seed)
        func offset() -> Int {
            let place = Int.random(in: 0...9 * Self.page, using: &random)
            return Bool.random(using: &random) ? place / Self.page * Self.page : place
        }
        var writes: [(offset: Int, bytes: [UInt8])] = []
        var object = [UInt8](repeating: 0, count: 12 * Self.page)
        for index in 0..<Int.random(in: 1...12, using: &random) {
            let (begin, end) = (offset(), offset())
            let bytes = patternBytes(max(1, abs(end - begin)), salt: index + Int(seed) * 100)
            writes.append((min(begin, end), bytes))
            object.replaceSubrange(min(begin, end)..<min(begin, end) + bytes.count, with: bytes)
        }
        return (writes, Array(object.prefix(Int.random(in: 0...12 * Self.page, using: &random))))
    }

    private func write(_ writes: [(offset: Int, bytes: [UInt8])], to writer: any StorageWriter) throws {
        for (index, write) in writes.enumerated() {
            guard index % 2 == 0 else {
                try writer.write(write.bytes, at: write.offset)
                continue
            }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: write.bytes.count, alignment: Self.page)
            defer { memory.deallocate() }
            memory.copyBytes(from: write.bytes)
            try writer.write(UnsafeRawBufferPointer(memory).bytes, at: write.offset)
        }
    }

    @Test(arguments: DirectAccessSupport.allCases)
    func writesOfAnyLengthAtAnyPlaceInAnyOrderMakeTheObject(_ support: DirectAccessSupport) throws {
        for seed in 0..<300 as Range<UInt64> {
            let (writes, object) = randomWrites(seed: seed)
            let disk = SimulatedDisk(directAccess: support)
            let storage = LocalStorage(root: "/run", writing: .direct, fileSystem: disk)
            let writer = try storage.create("object", byteCount: seed % 3 == 0 ? nil : object.count)
            try write(writes, to: writer)
            try writer.finish(byteCount: object.count)
            let isEqual = try storage.readAll("object") == object
            #expect(isEqual, "seed \(seed)")
            #expect((disk.directCallCount > 0) == (support == .aligned), "seed \(seed)")
            let survivor = LocalStorage(root: "/run", fileSystem: disk.crash(.losePending, seed: seed))
            let hasSurvived = try survivor.readAll("object") == object
            #expect(hasSurvived, "seed \(seed)")
        }
    }

    /// A refusal in the middle is one of a file system that has other needs than were thought.
    @Test(arguments: [SimulatedFault.fail(EINVAL), .fail(EINTR), .short])
    func aCallThatIsRefusedInterruptedOrShortIsMadeGood(_ fault: SimulatedFault) throws {
        for seed in 0..<6 as Range<UInt64> {
            let (writes, object) = randomWrites(seed: seed)
            for call in 1... {
                let disk = SimulatedDisk()
                let storage = LocalStorage(root: "/", writing: .direct, fileSystem: disk)
                let writer = try storage.create("object", byteCount: object.count)
                let first = disk.callCount
                disk.inject(fault, atCall: first + call)
                try write(writes, to: writer)
                guard disk.callCount >= first + call else { break }
                try writer.finish(byteCount: object.count)
                let isEqual = try storage.readAll("object") == object
                #expect(isEqual, "seed \(seed), call \(call)")
            }
        }
    }

    @Test func moreIncompletePagesThanAreKeptInMemoryAreWrittenAndCompletedLater() throws {
        let storage = LocalStorage(root: "/run", writing: .direct, fileSystem: SimulatedDisk())
        let writer = try storage.create("object", byteCount: nil)
        let count = 1_500
        for (offset, step) in [(7, 1), (4_000, -1), (9, 1)] {
            for page in stride(from: step > 0 ? 0 : count - 1, to: step > 0 ? count : -1, by: step) {
                try writer.write([UInt8(truncatingIfNeeded: page &* 31 &+ offset)], at: page * Self.page + offset)
            }
        }
        try writer.finish(byteCount: count * Self.page)
        let found = try storage.readAll("object")
        for page in 0..<count {
            let bytes = found[page * Self.page..<(page + 1) * Self.page]
            let expected = [7, 9, 4_000].map { UInt8(truncatingIfNeeded: page &* 31 &+ $0) }
            #expect([7, 9, 4_000].map { bytes[bytes.startIndex + $0] } == expected, "page \(page)")
            #expect(bytes.count { $0 != 0 } <= 3, "page \(page)")
        }
    }

    @Test func whatCanBeOnHugePagesIsWrittenAsItIsAndTheRestCopied() throws {
        let disk = SimulatedDisk()
        let storage = LocalStorage(root: "/", writing: .direct, fileSystem: disk)
        let memory = AlignedMemory(byteCount: 10 << 20)
        defer { memory.deallocate() }
        let bytes = UnsafeMutableRawBufferPointer(start: memory.base, count: memory.byteCount)
        bytes.copyBytes(from: patternBytes(memory.byteCount))
        for (begin, byteCount, callCount) in [
            (0, 8 << 20, 1), (Self.page, 8 << 20, 3), (0, 5 << 20, 2), ((2 << 20) - Self.page, 4 << 20 | Self.page, 2),
            (Self.page, 1 << 20, 1), (512, 4 << 20, 2),
        ] {
            let part = UnsafeRawBufferPointer(rebasing: bytes[begin..<begin + byteCount])
            let writer = try storage.create("object", byteCount: byteCount)
            let before = disk.callCount
            try writer.write(part.bytes, at: 0)
            #expect(disk.callCount == before + callCount, "\(byteCount) bytes from \(begin)")
            try writer.finish(byteCount: byteCount)
            let isEqual = try storage.readAll("object").elementsEqual(part)
            #expect(isEqual, "\(byteCount) bytes from \(begin)")
        }
    }

    @Test func onlyLargeObjectsPassByThePageCacheUnlessAsked() throws {
        for (writing, byteCount, isDirect) in [
            (LocalWriting.automatic, 1 << 30, true), (.automatic, 1 << 20, false), (.automatic, nil, false),
            (.buffered, 1 << 30, false), (.direct, nil, true),
        ] as [(LocalWriting, Int?, Bool)] {
            let disk = SimulatedDisk()
            // No room is reserved, which would take as much memory.
            if byteCount != nil { disk.inject(.fail(EOPNOTSUPP), atCall: isDirect ? 3 : 2) }
            let writer = try LocalStorage(root: "/", writing: writing, fileSystem: disk)
                .create("object", byteCount: byteCount)
            try writer.write(patternBytes(Self.page), at: 0)
            #expect((disk.directCallCount > 0) == isDirect, "\(writing), \(byteCount ?? -1)")
            writer.discard()
        }
    }

    @Test func everyBarelyOddRangeOfManyThreadsArrives() throws {
        let directory = try TemporaryDirectory()
        let storage = LocalStorage(root: directory.path, writing: .direct)
        let bytes = patternBytes(9 << 20 | 77, salt: 3)
        for piece in [4_097, 12_345, 1 << 20 | 1] {
            let writer = try storage.create("object", byteCount: bytes.count)
            let count = bytes.count.dividedRoundingUp(by: piece)
            try ThreadPool.shared.forEach(count, width: 8) { index in
                // Neighbours, which share a page, are written far apart in time.
                let place = (index * 7_919) % count
                let range = place * piece..<min(bytes.count, (place + 1) * piece)
                try writer.write(bytes.span.extracting(range).bytes, at: range.lowerBound)
            }
            try writer.finish(byteCount: bytes.count)
            let isEqual = try storage.readAll("object") == bytes
            #expect(isEqual, "pieces of \(piece) bytes")
        }
    }
}
