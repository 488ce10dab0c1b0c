import CairnStorage
import CairnStorageTesting
import Testing

@Suite struct StorageConformanceTests {
    @Test(arguments: StorageConformance.all)
    func localStorageConforms(_ conformance: StorageConformance) throws {
        let directory = TemporaryDirectory()
        try conformance.check(LocalStorage(root: directory.path + "/made/on/demand"))
    }

    @Test(arguments: StorageConformance.all)
    func memoryStorageConforms(_ conformance: StorageConformance) throws {
        try conformance.check(MemoryStorage())
    }

    @Test(arguments: StorageConformance.all)
    func localStorageOnASimulatedDiskConforms(_ conformance: StorageConformance) throws {
        try conformance.check(LocalStorage(root: "/made/on/demand", fileSystem: SimulatedDisk()))
    }
}
