import CairnStorage
import CairnStorageTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite struct SimulatedDiskTests {
    /// Makes a file, by default without synchronizing anything.
    @discardableResult
    private func write(
        _ bytes: [UInt8], to path: String, on disk: SimulatedDisk, synchronized: Bool = false
    ) throws -> Int32 {
        let descriptor = try disk.open(path, .createExclusive)
        #expect(try disk.write(descriptor, at: 0, bytes) == bytes.count)
        if synchronized {
            try disk.synchronize(descriptor)
            try synchronizeRoot(of: disk)
        }
        return descriptor
    }

    private func synchronizeRoot(of disk: SimulatedDisk) throws {
        let root = try disk.open("/", .directory)
        try disk.synchronize(root)
        try disk.close(root)
    }

    /// What `crash` leaves under the policy for many seeds.
    private func outcomes(
        of disk: SimulatedDisk, _ policy: CrashPolicy, seeds: Range<UInt64> = 0..<200
    ) -> [[String: [UInt8]]] {
        seeds.map { disk.crash(policy, seed: $0).files }
    }

    @Test func whatWasNotSynchronizedIsLostOrKeptByPolicy() throws {
        let disk = SimulatedDisk()
        try write([1, 2, 3], to: "/file", on: disk)
        #expect(disk.files == ["/file": [1, 2, 3]])
        #expect(disk.crash(.losePending, seed: 0).files == [:])
        #expect(disk.crash(.keepPending, seed: 0).files == ["/file": [1, 2, 3]])
        #expect(disk.files == ["/file": [1, 2, 3]], "a crash changes its result, not the disk")
    }

    @Test func synchronizingAFileDoesNotKeepItsName() throws {
        let disk = SimulatedDisk()
        let descriptor = try write([1, 2, 3], to: "/file", on: disk)
        try disk.synchronize(descriptor)
        #expect(disk.crash(.losePending, seed: 0).files == [:])
        try synchronizeRoot(of: disk)
        #expect(disk.crash(.losePending, seed: 0).files == ["/file": [1, 2, 3]])
    }

    @Test func synchronizingADirectoryDoesNotKeepTheBytes() throws {
        let disk = SimulatedDisk()
        try write(patternBytes(1_024), to: "/file", on: disk)
        try synchronizeRoot(of: disk)
        #expect(disk.crash(.losePending, seed: 0).files == ["/file": []])
        // The size and the bytes are independent: each alone must occur.
        let found = outcomes(of: disk, .subset).compactMap { $0["/file"] }
        #expect(found.count == 200)
        #expect(Set(found) == [[], [UInt8](repeating: 0, count: 1_024), patternBytes(1_024)])
    }

    @Test func directoryChangesAreLostAndReordered() throws {
        let disk = SimulatedDisk()
        try write([1], to: "/old", on: disk, synchronized: true)
        try disk.unlink("/old")
        try write([2], to: "/a", on: disk)
        try disk.rename("/a", to: "/b")
        try disk.makeDirectory("/directory")
        #expect(disk.crash(.losePending, seed: 0).files == ["/old": [1]])
        let names = Set(outcomes(of: disk, .subset).map { Set($0.keys) })
        #expect(names.contains(["/old", "/b"]), "the later rename without the earlier removal")
        #expect(names.contains([]), "the removal alone")
        #expect(names.contains(["/a"]))
        #expect(!names.contains { $0.isSuperset(of: ["/a", "/b"]) }, "a rename is atomic")
    }

    @Test func aRemovedDirectoryComesBackWithItsFiles() throws {
        let disk = SimulatedDisk()
        let storage = LocalStorage(root: "/run", fileSystem: disk)
        try storage.publish([7], as: "step/file")
        try disk.unlink("/run/step/file")
        try disk.removeDirectory("/run/step")
        #expect(disk.crash(.losePending, seed: 0).files == ["/run/step/file": [7]])
        #expect(disk.crash(.keepPending, seed: 0).files == [:])
    }

    @Test func aPrefixKeepsNothingAfterWhatItLost() throws {
        let disk = SimulatedDisk()
        for index in 0..<10 { try write([UInt8(index)], to: "/\(index)", on: disk) }
        let counts = outcomes(of: disk, .prefix).map { files in
            #expect(Set(files.keys) == Set((0..<files.count).map { "/\($0)" }))
            return files.count
        }
        #expect(Set(counts) == Set(0...10))
    }

    @Test func tornWritesFallApartIntoSectors() throws {
        let disk = SimulatedDisk()
        let old = patternBytes(8 * 512, salt: 1)
        let new = patternBytes(8 * 512, salt: 2)
        let descriptor = try write(old, to: "/file", on: disk, synchronized: true)
        _ = try disk.write(descriptor, at: 0, new)
        var mixtures: Set<[Bool]> = []
        for files in outcomes(of: disk, .torn) {
            let found = try #require(files["/file"])
            mixtures.insert(
                try (0..<8).map { sector in
                    let range = sector * 512..<(sector + 1) * 512
                    let isNew = found[range] == new[range]
                    try #require(isNew || found[range] == old[range], "sector \(sector) is neither old nor new")
                    return isNew
                })
        }
        #expect(mixtures.count > 30)
    }

    @Test func bytesThatNeverArrivedReadAsZerosOrAsGarbage() throws {
        let disk = SimulatedDisk()
        try write(patternBytes(4_096, salt: 1), to: "/other", on: disk, synchronized: true)
        let bytes = patternBytes(4_096, salt: 2)
        try write(bytes, to: "/file", on: disk)
        try synchronizeRoot(of: disk)
        var kinds: Set<String> = []
        for files in outcomes(of: disk, .torn) {
            let found = try #require(files["/file"])
            #expect(files["/other"] == patternBytes(4_096, salt: 1))
            if found.isEmpty { kinds.insert("empty") }
            for start in stride(from: 0, to: found.count, by: 512) {
                let sector = found[start..<start + 512]
                if sector == bytes[start..<start + 512] {
                    kinds.insert("written")
                } else if sector.allSatisfy({ $0 == 0 }) {
                    kinds.insert("zeros")
                } else if sector == patternBytes(4_096, salt: 1)[start..<start + 512] {
                    kinds.insert("other file")
                } else {
                    kinds.insert("random")
                }
            }
        }
        #expect(kinds == ["empty", "written", "zeros", "other file", "random"])
    }

    @Test func aFailedSynchronizationLosesTheBytesForGood() throws {
        let disk = SimulatedDisk()
        let descriptor = try write([1, 2, 3], to: "/file", on: disk)
        disk.inject(.fail(EIO), atCall: disk.callCount + 1)
        #expect(throws: SystemCallError.self) { try disk.synchronize(descriptor) }
        #expect(disk.files == ["/file": [1, 2, 3]], "the cache still shows them")
        try disk.synchronize(descriptor)
        try synchronizeRoot(of: disk)
        #expect(disk.crash(.losePending, seed: 0).files == ["/file": [0, 0, 0]])
        #expect(disk.crash(.keepPending, seed: 0).files == ["/file": [0, 0, 0]])
    }

    @Test func theSameSeedLeavesTheSameDisk() throws {
        let disk = SimulatedDisk()
        for index in 0..<20 { try write(patternBytes(3_000, salt: index), to: "/\(index)", on: disk) }
        for policy in CrashPolicy.allCases {
            #expect(disk.crash(policy, seed: 11).files == disk.copy().crash(policy, seed: 11).files)
        }
        #expect(disk.crash(.torn, seed: 11).files != disk.crash(.torn, seed: 12).files)
    }

    @Test func aFullDiskWritesWhatFitsAndThenNothing() throws {
        let disk = SimulatedDisk(capacity: 1_000)
        let descriptor = try write(patternBytes(600), to: "/a", on: disk)
        #expect(try disk.write(descriptor, at: 600, patternBytes(1_000)) == 400)
        let error = #expect(throws: SystemCallError.self) {
            try disk.write(descriptor, at: 1_000, patternBytes(1))
        }
        #expect(error?.number == ENOSPC)
        #expect(try disk.write(descriptor, at: 0, patternBytes(1_000)) == 1_000, "overwriting needs no space")
        try disk.unlink("/a")
        #expect(disk.usedBytes == 1_000, "an open file keeps its space")
        try disk.close(descriptor)
        #expect(disk.usedBytes == 0)
    }

    @Test func aStoppedDiskDoesNothingMore() throws {
        for (fault, expected) in [(SimulatedFault.stopBefore, [String]()), (.stopAfter, ["/file"])] {
            let disk = SimulatedDisk()
            disk.inject(fault, atCall: 1)
            #expect(throws: SystemCallError.self) { try disk.open("/file", .createExclusive) }
            #expect(throws: SystemCallError.self) { try disk.makeDirectory("/directory") }
            #expect(disk.isStopped)
            #expect(Array(disk.files.keys) == expected)
            let reopened = disk.crash(.keepPending, seed: 0)
            try reopened.makeDirectory("/directory")
        }
    }

    @Test func inodesOfDeletedFilesAreForgotten() throws {
        let disk = SimulatedDisk(capacity: 100_000)
        let storage = LocalStorage(root: "/run", fileSystem: disk)
        for index in 0..<2_000 {
            try storage.publish(patternBytes(1_000, salt: index), as: "step-\(index % 3)/file")
            if index % 7 == 0 { try storage.delete(["step-\(index % 3)/file"]) }
        }
        #expect(disk.inodeCount < 300)
        #expect(disk.usedBytes <= 3_000)
    }
}

extension SimulatedDisk {
    /// pwrite(2) of an array.
    func write(_ descriptor: Int32, at offset: Int, _ bytes: [UInt8]) throws(SystemCallError) -> Int {
        try bytes.span.bytes.withUnsafeBytes { buffer throws(SystemCallError) in
            try write(descriptor, at: offset, from: buffer)
        }
    }
}
