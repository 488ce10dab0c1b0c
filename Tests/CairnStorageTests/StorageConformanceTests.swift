import CairnStorage
import CairnStorageTesting
import Testing

@Suite struct StorageConformanceTests {
    @Test(arguments: StorageConformance.all, [LocalWriting.buffered, .direct, .automatic])
    func localStorageConforms(_ conformance: StorageConformance, _ writing: LocalWriting) throws {
        let directory = TemporaryDirectory()
        try conformance.check(LocalStorage(root: directory.path + "/made/on/demand", writing: writing))
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
        try conformance.check(LocalStorage(root: "/made/on/demand", writing: .direct, fileSystem: disk))
    }
}
