import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Zip archives that lie, or expand to more than there is memory for, are refused at once.
@Suite struct HostileArchiveTests {
    private static let pickle = TestArchive.Record("a/data.pkl", Array("}.".utf8))

    /// A pickle with the tensor `t` of so many single-precision numbers, the whole of storage 0.
    private static func pickle(ofTensor count: Int) -> [UInt8] {
        Array(
            """
            (dVt
            ctorch._utils
            _rebuild_tensor_v2
            ((Vstorage
            ctorch
            FloatStorage
            V0
            Vcpu
            I\(count)
            tQI0
            (I\(count)
            t(I1
            tI00
            ccollections
            OrderedDict
            (tRtRs.
            """.utf8)
    }

    private static func reader(_ archive: TestArchive) throws -> TorchReader {
        let storage = MemoryStorage()
        try storage.publish(archive.bytes, as: "file.pt")
        return try TorchReader(storage: storage, file: "file.pt")
    }

    private static func refusal(_ archive: TestArchive) -> CairnError.Code? {
        do {
            let reader = try reader(archive)
            for tensor in reader.tensors where tensor.byteCount < 1 << 20 { _ = try reader.tensor(tensor.name) }
            return nil
        } catch {
            return (error as? CairnError)?.code
        }
    }

    @Test func anHonestArchiveIsRead() {
        #expect(Self.refusal(TestArchive([Self.pickle])) == nil)
        var wide = Self.pickle
        wide.wideSizes = [2, 2]
        #expect(Self.refusal(TestArchive([wide])) == nil)
    }

    @Test func aPickleThatExpandsOutOfProportionIsRefusedUnexpanded() async {
        await #expect(processExitsWith: .success) {
            // A quarter of a megabyte that expands to 256.
            let archive = TestArchive([
                .init("a/data.pkl", deflating: [UInt8](repeating: 0x5D, count: 1 << 20), times: 256)
            ])
            precondition(archive.bytes.count < 1 << 19)
            PeakMemory.requireGrowth(below: 16 << 20) {
                precondition(HostileArchiveTests.refusal(archive) == .unsupported)
            }
        }
    }

    @Test func aCompressedPickleMakesNoMoreThingsThanItsBytesAllow() async {
        await #expect(processExitsWith: .success) {
            // Sixteen million empty lists in sixteen kilobytes.
            let archive = TestArchive([
                .init("a/data.pkl", deflating: [UInt8](repeating: 0x5D, count: 1 << 20), times: 16)
            ])
            PeakMemory.requireGrowth(below: 192 << 20) {
                precondition(HostileArchiveTests.refusal(archive) == .unsupported)
            }
        }
    }

    @Test func aStorageThatExpandsHugelyIsReadInPieces() async {
        await #expect(processExitsWith: .success) {
            let count = 128 << 20
            let archive = TestArchive([
                .init("a/data.pkl", HostileArchiveTests.pickle(ofTensor: count)),
                .init("a/data/0", deflating: [UInt8](repeating: 0, count: 1 << 20), times: 512),
            ])
            try PeakMemory.requireGrowth(below: 32 << 20) {
                let reader = try HostileArchiveTests.reader(archive)
                precondition(reader.tensors.map(\.shape.extents) == [[count]])
                var bytes = [UInt8](repeating: 1, count: 16)
                var span = bytes.mutableSpan
                var raw = span.mutableBytes
                try reader.read("t", region: Region(offsets: [1 << 20], shape: Shape([4])), into: &raw)
                precondition(bytes == [UInt8](repeating: 0, count: 16))
            }
        }
    }

    @Test func sizesThatCannotBeAreRefused() {
        var record = Self.pickle
        // Stored as it is, but of two sizes.
        record.byteCount = 3
        #expect(Self.refusal(TestArchive([record])) == .malformed)
        // Longer than the file.
        record = Self.pickle
        (record.byteCount, record.storedByteCount) = (1 << 20, 1 << 20)
        #expect(Self.refusal(TestArchive([record])) == .malformed)
        // More than DEFLATE can make of so little; more, and less, than it does.
        let compressed = TestArchive.Record("a/data.pkl", deflating: Array("}.".utf8))
        #expect(Self.refusal(TestArchive([compressed])) == nil)
        for (byteCount, code) in [
            (1 << 20, CairnError.Code.malformed), (3, .corrupted), (1, .corrupted), (0, .corrupted),
        ] {
            record = compressed
            record.byteCount = byteCount
            #expect(Self.refusal(TestArchive([record])) == code, "\(byteCount)")
        }
        for sizes: [UInt64] in [
            [.max, 2], [2, .max], [1 << 63, 1 << 63], [1 << 62, 1 << 62], [UInt64(Int.max), UInt64(Int.max)], [2],
        ] {
            record = Self.pickle
            record.wideSizes = sizes
            if sizes.count == 1 { record.storedByteCount = 0xFFFF_FFFF }
            #expect(Self.refusal(TestArchive([record])) == .malformed, "\(sizes)")
        }
    }

    @Test func countsAndPlacesOfTheDirectoryThatCannotBeAreRefused() {
        for count in [2, 3, 0xFFFF] {
            var archive = TestArchive([Self.pickle])
            archive.count = count
            #expect(Self.refusal(archive) == .malformed, "\(count)")
        }
        let place = UInt64(30 + 10 + 2), size = UInt64(46 + 10)
        var archive = TestArchive([Self.pickle])
        archive.wideEnd = [1, size, place]
        #expect(Self.refusal(archive) == nil)
        for end: [UInt64] in [
            [1 << 62, size, place], [.max, size, place], [1, .max, place], [1, size, .max], [1, 1 << 62, 1 << 62],
            [1, UInt64(Int.max), UInt64(Int.max)], [1, size + 1, place], [2, size, place], [1, size, place + 1],
        ] {
            archive.wideEnd = end
            #expect(Self.refusal(archive) == .malformed, "\(end)")
        }
    }

    @Test func recordsThatShareBytesAreRefused() {
        // Two names for one record; one inside the bytes of another, as in archives that expand without end.
        let inner = TestArchive([.init("b", Array(repeating: 7, count: 64))]).bytes
        let outer = TestArchive.Record("a", inner)
        for offset in [0, 30 + 1] {
            var other = TestArchive.Record("b", Array(repeating: 7, count: 64))
            other.headerOffset = offset
            #expect(Self.refusal(TestArchive([outer, other, Self.pickle])) == .malformed, "\(offset)")
        }
    }

    @Test func manyRecordsThatExpandAreHeldOneAtATime() async {
        await #expect(processExitsWith: .success) {
            let header = HostileArchiveTests.header(count: 4_000_000)
            let elements = [UInt8](repeating: 0, count: 4_000_000)
            let archive = TestArchive(
                (0..<64).map { index in
                    .init("t\(index).npy", deflating: header + elements)
                })
            try PeakMemory.requireGrowth(below: 48 << 20) {
                let storage = MemoryStorage()
                try storage.publish(archive.bytes, as: "file.npz")
                let reader = try NumPyReader(storage: storage, file: "file.npz")
                precondition(reader.tensors.count == 64)
                let report = try reader.verify(deep: true) { _ in }
                precondition(report.byteCount == 64 * (header.count + elements.count))
            }
        }
    }

    /// The beginning of a `.npy` file of bytes.
    private static func header(count: Int) -> [UInt8] {
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (\(count),), }\n"
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8)
    }
}
