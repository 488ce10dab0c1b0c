import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Synchronization
import Testing

@Suite struct FileTensorTests {
    /// Counts what is read of a file.
    private final class CountingFile: StorageFile {
        let base: any StorageFile
        let count = Mutex((calls: 0, bytes: 0))

        init(_ base: any StorageFile) { self.base = base }

        var key: String { base.key }
        var byteCount: Int { base.byteCount }

        func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
            let byteCount = destination.byteCount
            count.withLock { $0 = ($0.calls + 1, $0.bytes + byteCount) }
            try base.read(at: offset, into: &destination)
        }

        func map() throws(CairnError) -> MemoryMapping? { nil }
    }

    private func stored(_ tensor: Tensor, after prefix: Int = 3) throws -> (FileTensor, CountingFile) {
        let storage = MemoryStorage()
        let bytes = tensor.bytes.withUnsafeBytes { Array($0) }
        try storage.publish([UInt8](repeating: 9, count: prefix) + bytes, as: "x")
        let file = CountingFile(try storage.open("x"))
        let stored = FileTensor(file: file, byteOffset: prefix, scalarType: tensor.scalarType, shape: tensor.shape)
        return (stored, file)
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func anyRegionIsWhatItIsInMemory(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let type = [ScalarType.u8, .bf16, .f32, .i64].randomElement(using: &generator) ?? .u8
        let extents = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
            Int.random(in: 1...9, using: &generator)
        }
        let tensor = try Tensor.random(type, Shape(extents), using: &generator)
        let offsets = extents.map { Int.random(in: 0..<$0, using: &generator) }
        let lengths = zip(extents, offsets).map { Int.random(in: 0...$0 - $1, using: &generator) }
        let region = try Region(offsets: offsets, shape: Shape(lengths))
        let (stored, _) = try stored(tensor)
        let read = try Tensor(type, region.shape) { destination in try stored.read(region, into: &destination) }
        #expect(try read == tensor.copy(of: region), "seed \(seed)")
    }

    @Test func closeRunsAreReadTogetherAndDistantOnesWithoutWhatLiesBetween() throws {
        var generator = SeededGenerator(seed: 1)
        let close = try Tensor.random(.u8, [2000, 1000], using: &generator)
        var (stored, file) = try stored(close)
        let columns = try Region(offsets: [0, 10], shape: [2000, 100])
        #expect(
            try Tensor(.u8, columns.shape) { try stored.read(columns, into: &$0) } == close.copy(of: columns))
        #expect(file.count.withLock { $0.calls } <= 3)
        let distant = try Tensor.random(.u8, [20, 100_000], using: &generator)
        (stored, file) = try self.stored(distant)
        let narrow = try Region(offsets: [0, 50_000], shape: [20, 64])
        #expect(
            try Tensor(.u8, narrow.shape) { try stored.read(narrow, into: &$0) } == distant.copy(of: narrow))
        #expect(file.count.withLock { $0.bytes } == 20 * 64)
    }

    @Test func regionsThatDoNotFitAreRefused() throws {
        let (stored, _) = try stored(try Tensor(zeros: .f4, [4, 3, 2]))
        var bytes = [UInt8](repeating: 0, count: 12)
        func read(_ offsets: [Int], _ shape: Shape, byteCount: Int) throws(CairnError) {
            var span = bytes.mutableSpan
            var all = span.mutableBytes
            var destination = all._mutatingExtracting(0..<byteCount)
            try stored.read(Region(offsets: offsets, shape: shape), into: &destination)
        }
        try read([0, 0, 0], [4, 3, 2], byteCount: 12)
        try read([1, 1, 0], [2, 1, 2], byteCount: 2)
        #expect(throws: CairnError.self) { try read([1, 0, 0], [4, 3, 2], byteCount: 12) }
        #expect(throws: CairnError.self) { try read([0, 0], [4, 3], byteCount: 6) }
        #expect(throws: CairnError.self) { try read([0, 0, 0], [4, 3, 2], byteCount: 11) }
        #expect(throws: CairnError.self) { try read([0, 0, 1], [4, 1, 1], byteCount: 2) }
    }
}
