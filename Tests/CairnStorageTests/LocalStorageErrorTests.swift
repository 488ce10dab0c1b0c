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

/// What the operating system itself refuses, and how that reads.
@Suite struct LocalStorageErrorTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private var storage: LocalStorage { LocalStorage(root: directory.path) }

    private func link(_ target: String, at name: String) {
        #expect(symlink(target, directory.path + "/" + name) == 0)
    }

    @Test func aMissingFileIsNamedWithItsPath() {
        let error = #expect(throws: CairnError.self) { try storage.open("step/absent") }
        #expect(error?.code == .notFound)
        #expect(error?.description == "\(directory.path)/step/absent: cannot open: No such file or directory (open)")
    }

    @Test func aFileWhereADirectoryShouldBeIsAnError() throws {
        try storage.publish([1], as: "file")
        #expect(throws: CairnError.self) { try storage.publish([2], as: "file/below") }
        let inFile = LocalStorage(root: directory.path + "/file")
        let calls: [() throws -> Void] = [
            { try inFile.publish([2], as: "object") }, { _ = try inFile.list("") }, { _ = try inFile.open("object") },
        ]
        for call in calls {
            let error = #expect(throws: CairnError.self) { try call() }
            #expect(error?.code == .notADirectory && error?.context.file == directory.path + "/file")
        }
        #expect(try storage.readAll("file") == [1])
        #expect(try storage.list("").count == 1)
    }

    @Test func aDirectoryInTheWayIsAnErrorAndStays() throws {
        try storage.publish([1], as: "step/object")
        let error = #expect(throws: CairnError.self) { try storage.publish([2], as: "step") }
        #expect(error?.code == .inputOutput)
        #expect(error?.context.advice == "a directory is in the way")
        #expect(throws: CairnError.self) { try storage.delete(["step"]) }
        #expect(try storage.list("").map(\.key) == ["step/object"])
    }

    @Test func aNameTheFileSystemCannotHoldIsInvalid() {
        let error = #expect(throws: CairnError.self) {
            try storage.publish([1], as: String(repeating: "n", count: 300))
        }
        #expect(error?.code == .invalidArgument)
        #expect(error?.context.advice == "choose a shorter name")
    }

    @Test func aDeviceIsNoObject() throws {
        link("/dev/zero", at: "zeros")
        let error = #expect(throws: CairnError.self) { try storage.open("zeros") }
        #expect(error?.code == .unsupported)
        #expect(mkfifo(directory.path + "/fifo", 0o600) == 0)
        #expect(throws: CairnError.self) { try storage.open("fifo") }
        #expect(try storage.list("") == [])
    }

    #if os(Linux)
    @Test func aFullDeviceIsNoSpace() throws {
        let descriptor = open("/dev/full", O_WRONLY | O_CLOEXEC)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        let error = #expect(throws: SystemCallError.self) {
            try [UInt8](repeating: 1, count: 10).span.bytes.withUnsafeBytes { buffer throws(SystemCallError) in
                _ = try PosixFileSystem().write(descriptor, at: 0, from: buffer)
            }
        }
        #expect(error?.number == ENOSPC)
        #expect(error?.explained("write", "/dev/full").code == .noSpace)
    }

    @Test func aFullFileSystemIsNoSpaceAndKeepsTheOldObject() throws {
        // Only root may mount; for others the simulated disk has shown the same.
        guard mount("none", directory.path, "tmpfs", 0, "size=1m") == 0 else { return }
        defer { umount2(directory.path, Int32(MNT_DETACH)) }
        let old = patternBytes(300_000)
        try storage.write(old, as: "object")
        let reserving = #expect(throws: CairnError.self) { try storage.create("object", byteCount: 2 << 20) }
        #expect(reserving?.code == .noSpace)
        let publishing = #expect(throws: CairnError.self) { try storage.publish(patternBytes(2 << 20), as: "object") }
        #expect(publishing?.code == .noSpace)
        #expect(publishing?.description.contains("No space left on device") == true)
        #expect(try storage.readAll("object") == old)
        #expect(try storage.list("").map(\.key) == ["object"])
        try storage.write(patternBytes(600_000), as: "object", reserving: 600_000)
    }
    #endif

    @Test func linksToFilesAreFollowedAndLinksToDirectoriesAreNot() throws {
        try storage.publish([1, 2, 3], as: "blobs/object")
        link("blobs/object", at: "snapshot")
        link(".", at: "loop")
        link("nowhere", at: "dangling")
        #expect(try storage.list("").map(\.key) == ["blobs/object", "snapshot"])
        #expect(try storage.readAll("snapshot") == [1, 2, 3])
        #expect(try storage.readAll("loop/loop/snapshot") == [1, 2, 3])
        let error = #expect(throws: CairnError.self) { try storage.open("dangling") }
        #expect(error?.code == .notFound)
    }

    @Test func aFileCutShortWhileItIsReadIsIncomplete() throws {
        try storage.publish(patternBytes(10_000), as: "object")
        let file = try storage.open("object")
        #expect(truncate(directory.path + "/object", 4_000) == 0)
        let error = #expect(throws: CairnError.self) { try file.bytes(in: 3_000..<6_000) }
        #expect(error?.code == .incomplete)
        #expect(error?.context.found == "1000 bytes")
    }

    @Test func emptyDirectoriesGoWithTheirLastFileButNeverTheRoot() throws {
        try storage.publish([1], as: "a/b/c/object")
        try storage.publish([1], as: "a/other")
        try storage.delete(["a/b/c/object"])
        #expect(access(directory.path + "/a/b", F_OK) != 0)
        try storage.delete(["a/other"])
        #expect(access(directory.path + "/a", F_OK) != 0)
        #expect(access(directory.path, F_OK) == 0)
    }

    @Test func debrisOfACrashedWriterIsListedAndCanBeDeleted() throws {
        let disk = SimulatedDisk()
        let writer = try LocalStorage(root: "/run", fileSystem: disk).create("step/object", byteCount: 100)
        let reopened = LocalStorage(root: "/run", fileSystem: disk.crash(.keepPending, seed: 0))
        let entries = try reopened.list("step/object")
        #expect(entries.count == 1)
        #expect(entries.allSatisfy { $0.isTemporary && $0.key.hasPrefix("step/object") && $0.byteCount == 100 })
        try reopened.delete(entries.map(\.key))
        #expect(try reopened.list("") == [])
        writer.discard()
    }

    @Test func descriptorsAreClosedAndNotInherited() throws {
        let disk = SimulatedDisk()
        let simulated = LocalStorage(root: "/run", fileSystem: disk)
        try simulated.publish([1], as: "step/object")
        _ = try simulated.open("step/object").bytes(in: 0..<1)
        try simulated.create("step/other", byteCount: nil).discard()
        #expect(throws: CairnError.self) { try simulated.open("step") }
        #expect(disk.openDescriptorCount == 0)
        for mode in [FileOpenMode.read, .directory, .createExclusive] {
            let path = directory.path + (mode == .directory ? "" : "/file")
            if mode == .read { try storage.publish([1], as: "file") } else { try storage.delete(["file"]) }
            let descriptor = try PosixFileSystem().open(path, mode)
            #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0, "\(mode)")
            try PosixFileSystem().close(descriptor)
        }
    }

    @Test func aPlainPathIsOpenedWhereItLies() throws {
        try storage.publish([4, 5], as: "deep/model.safetensors")
        let path = directory.path + "/deep/model.safetensors"
        #expect(try LocalStorage.open(path: path).bytes(in: 0..<2) == [4, 5])
        let (located, key) = try LocalStorage.locate(path)
        #expect(located.root == directory.path + "/deep")
        #expect(key == "model.safetensors")
        #expect(try LocalStorage.locate("/file").storage.root == "/")
        #expect(try LocalStorage.locate("file").storage.root == ".")
        for path in ["", "/", "directory/", "..", "a/.."] {
            let error = #expect(throws: CairnError.self, "\(path)") { try LocalStorage.locate(path) }
            #expect(error?.code == .invalidArgument, "\(path)")
        }
    }
}
