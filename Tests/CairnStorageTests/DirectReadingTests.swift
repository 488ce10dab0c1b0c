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

/// Objects read past the page cache: the bytes are the same, wherever a range begins and ends and wherever it goes.
@Suite struct DirectReadingTests {
    private static let page = 4096

    /// Reads a range into memory that begins `shift` bytes after a page, and gives back what is there, with what is around.
    private func read(_ file: any StorageFile, _ range: Range<Int>, shift: Int) throws -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(
            byteCount: shift + range.count + 16, alignment: Self.page)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
        var target = UnsafeMutableRawBufferPointer(rebasing: memory[shift..<shift + range.count]).mutableBytes
        try file.read(at: range.lowerBound, into: &target)
        #expect(memory[..<shift].allSatisfy { $0 == 0xA5 }, "before \(range)")
        #expect(memory[(shift + range.count)...].allSatisfy { $0 == 0xA5 }, "after \(range)")
        return Array(memory[shift..<shift + range.count])
    }

    private func randomRange(_ byteCount: Int, using random: inout SimulationRandom) -> Range<Int> {
        func place() -> Int {
            let place = Int.random(in: 0...byteCount, using: &random)
            return Bool.random(using: &random) ? place / Self.page * Self.page : place
        }
        let (first, second) = (place(), place())
        return min(first, second)..<max(first, second)
    }

    @Test(arguments: DirectAccessSupport.allCases)
    func anyRangeComesIntoAnyMemory(_ support: DirectAccessSupport) throws {
        let bytes = patternBytes(9 * Self.page + 1_234)
        let disk = SimulatedDisk(directAccess: support)
        let storage = LocalStorage(root: "/run", reading: .direct, fileSystem: disk)
        try storage.publish(bytes, as: "object")
        let file = try storage.open("object")
        var random = SimulationRandom(seed: 5)
        for round in 0..<500 {
            let range = randomRange(bytes.count, using: &random)
            let shift = [0, 1, 512, 1_000, 4_095].randomElement(using: &random) ?? 0
            let isEqual = try read(file, range, shift: shift) == Array(bytes[range])
            #expect(isEqual, "round \(round): \(range) into memory shifted by \(shift)")
        }
        #expect((disk.directCallCount > 0) == (support == .aligned))
    }

    @Test(arguments: [SimulatedFault.fail(EINTR), .fail(EINVAL), .short, .fail(EIO)])
    func aReadWithAFaultyCallIsMadeGoodOrThrows(_ fault: SimulatedFault) throws {
        let bytes = patternBytes(5 * Self.page + 77)
        let start = SimulatedDisk()
        try LocalStorage(root: "/run", fileSystem: start).publish(bytes, as: "object")
        var failures = 0
        for range in [0..<bytes.count, 0..<Self.page, 100..<3 * Self.page + 5, Self.page..<4 * Self.page] {
            for call in 1... {
                let disk = start.copy()
                let file = try LocalStorage(root: "/run", reading: .direct, fileSystem: disk).open("object")
                let first = disk.callCount
                disk.inject(fault, atCall: first + call)
                do throws(CairnError) {
                    let isEqual = try file.bytes(in: range) == Array(bytes[range])
                    #expect(isEqual, "\(range), call \(call)")
                } catch {
                    failures += 1
                    #expect(error.code == .inputOutput && fault == .fail(EIO), "\(range), call \(call): \(error)")
                }
                if disk.callCount < first + call { break }
            }
        }
        #expect((failures > 3) == (fault == .fail(EIO)))
    }

    @Test func theEndOfTheObjectIsTheEnd() throws {
        let bytes = patternBytes(2 * Self.page + 10)
        let directory = try TemporaryDirectory()
        let storage = LocalStorage(root: directory.path, writing: .direct, reading: .direct)
        try storage.write(bytes, as: "object")
        let file = try storage.open("object")
        for range in [0..<bytes.count + 1, bytes.count..<bytes.count + 1, 5 * Self.page..<6 * Self.page] {
            let error = #expect(throws: CairnError.self) { try read(file, range, shift: 0) }
            #expect(error?.code == .incomplete, "\(range)")
        }
    }

    @Test func aReplacedOrDeletedObjectIsReadThroughToItsEnd() throws {
        let directory = try TemporaryDirectory()
        let storage = LocalStorage(root: directory.path, reading: .direct)
        let old = patternBytes(70_000, salt: 1)
        try storage.write(old, as: "object")
        let (replaced, deleted) = (try storage.open("object"), try storage.open("object"))
        try storage.write(patternBytes(70_000, salt: 2), as: "object")
        #expect(try replaced.bytes(in: 0..<70_000) == old)
        try storage.delete(["object"])
        #expect(try deleted.bytes(in: 0..<70_000) == old)
    }

    @Test func onlyLargeReadsOfLargeObjectsPassByThePageCacheUnlessAsked() throws {
        for (reading, count, isDirect) in [
            (LocalReading.automatic, 1 << 20, true), (.automatic, 1_000, false), (.buffered, 1 << 20, false),
            (.direct, 1_000, true),
        ] {
            let disk = SimulatedDisk()
            let storage = LocalStorage(root: "/", writing: .buffered, reading: reading, fileSystem: disk)
            let writer = try storage.create("object", byteCount: 17 << 20)
            try writer.finish(byteCount: 17 << 20)
            #expect(try storage.open("object").bytes(in: 0..<count).allSatisfy { $0 == 0 })
            #expect((disk.directCallCount > 0) == isDirect, "\(reading), \(count)")
        }
    }
}
