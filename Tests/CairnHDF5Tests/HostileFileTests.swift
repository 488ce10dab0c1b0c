import CairnBase
import CairnDigest
import CairnHDF5
import CairnStorage
import CairnTesting
import Testing

/// Damaged files; HDF5 is a C library, so each trial is a process of its own.
@Suite struct HostileFileTests {
    /// Reads all of a file, for better or worse.
    private static func readAll(_ bytes: [UInt8]) {
        let storage = MemoryStorage()
        do {
            try storage.publish(bytes, as: "f.h5")
            _ = try CheckpointDigest(of: HDF5Reader(storage: storage, file: "f.h5"), bufferByteCount: 4096)
        } catch {
            precondition(error is CairnError, "\(error)")
        }
    }

    /// Files that made HDF5 1.10 crash or run forever before they were looked at first: sizes and numbers of text of any
    /// length, chunks that are larger than they say, attributes that cannot be understood.
    @Test(arguments: [
        "heap_size.h5", "heap_number.h5", "heap_endless.h5", "chunk_size.h5", "chunk_index.h5", "attribute.h5",
    ])
    func filesThatHarmedHDF5AreHarmless(file: String) async {
        await #expect(processExitsWith: .success) { [file] in
            HostileFileTests.readAll(try Fixture.bytes("hostile/" + file))
        }
    }

    /// An attribute whose type is nothing, in a header that says beside it that its attributes were elsewhere.
    @Test func anAttributeThatCannotBeUnderstoodIsNotShownToHDF5() async {
        await #expect(processExitsWith: .success) {
            var bytes = try Fixture.bytes("h5py_plain/userblock.h5")
            (bytes[58_304], bytes[65_632], bytes[104_435]) = (4, 0, 0)
            HostileFileTests.readAll(bytes)
        }
    }

    @Test func aCutAnywhereIsRefused() throws {
        let bytes = try Fixture.bytes("more/kinds.h5")
        let storage = MemoryStorage()
        for count in stride(from: 0, to: bytes.count - 1, by: 1 + bytes.count / 64) {
            try storage.publish(Array(bytes.prefix(count)), as: "f.h5")
            #expect(refusal { _ = try HDF5Reader(storage: storage, file: "f.h5") } != nil, "\(count)")
        }
    }
}
