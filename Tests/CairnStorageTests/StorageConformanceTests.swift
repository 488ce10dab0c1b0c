import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

@Suite struct StorageConformanceTests {
    @Test(
        arguments: StorageConformance.all,
        [(LocalWriting.buffered, LocalReading.buffered), (.direct, .direct), (.automatic, .automatic)])
    func localStorageConforms(_ conformance: StorageConformance, _ ways: (LocalWriting, LocalReading)) throws {
        let directory = try TemporaryDirectory()
        try conformance.check(
            LocalStorage(root: directory.path + "/made/on/demand", writing: ways.0, reading: ways.1))
    }

    @Test(arguments: StorageConformance.all)
    func memoryStorageConforms(_ conformance: StorageConformance) throws {
        try conformance.check(MemoryStorage())
    }

    @Test(arguments: StorageConformance.all)
    func localStorageOnASimulatedDiskConforms(_ conformance: StorageConformance) throws {
        try conformance.check(LocalStorage(root: "/made/on/demand", writing: .buffered, fileSystem: SimulatedDisk()))
    }

    @Test(arguments: StorageConformance.all, DirectAccessSupport.allCases)
    func localStorageThatWritesDirectlyConformsWhateverTheDisk(
        _ conformance: StorageConformance, _ support: DirectAccessSupport
    ) throws {
        let disk = SimulatedDisk(directAccess: support)
        try conformance.check(
            LocalStorage(root: "/made/on/demand", writing: .direct, reading: .direct, fileSystem: disk))
    }
}
