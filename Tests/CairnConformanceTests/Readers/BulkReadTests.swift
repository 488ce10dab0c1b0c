import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Synchronization
import Testing

/// Many regions at once are what they are one by one.
@Suite(.tags(.slow)) struct BulkReadTests {
    /// A request and the memory that it goes to: a box within a larger tensor, whose rest must stay.
    private struct Wanted {
        let request: RegionRequest
        let memory: UnsafeMutableRawBufferPointer
        let expected: [UInt8]
        let place: String
    }

    private static let filler: UInt8 = 0xA5

    @Test(arguments: ReaderSample.all, [1, 3])
    func requestsInAnyOrderAreTheSingleReads(sample: ReaderSample, concurrency: Int) throws {
        let reader = try sample.opened(), single = try sample.opened()
        let seed = UInt64(concurrency) + 40
        var generator = SeededGenerator(seed: seed)
        var wanted: [Wanted] = []
        defer { for one in wanted { one.memory.deallocate() } }
        for tensor in single.tensors.prefix(40) where tensor.shape.elementCount <= 1 << 12 {
            // Overlapping ones: all of the tensor among them, and often the same again.
            for region in try Region.samples(of: tensor.shape, using: &generator) {
                guard let bytes = refused(try single.bytes(tensor.name, region)) else { continue }
                wanted.append(try Self.wanted(tensor, region, bytes, using: &generator))
            }
        }
        wanted.shuffle(using: &generator)
        let byteCount = Mutex(0)
        let options = BulkReadOptions(concurrency: concurrency) { count in byteCount.withLock { $0 += count } }
        try reader.read(wanted.map(\.request), options: options)
        for one in wanted { #expect(Array(one.memory) == one.expected, "seed \(seed): \(one.place)") }
        #expect(byteCount.withLock { $0 > 0 } == wanted.contains { $0.request.region.elementCount > 0 })
    }

    /// The bytes, or `nil` for packed elements that do not fill whole bytes.
    private func refused(_ read: @autoclosure () throws -> [UInt8]) -> [UInt8]? { try? read() }

    private static func wanted(
        _ tensor: TensorDescription, _ region: Region, _ bytes: [UInt8], using generator: inout SeededGenerator
    ) throws -> Wanted {
        // Packed elements go straight; others into the middle of something larger.
        let margin = tensor.scalarType.isPacked ? 0 : Int.random(in: 0...2, using: &generator)
        let outer = Shape(region.shape.extents.map { $0 + 2 * margin })
        let local = try Region(offsets: region.offsets.map { _ in margin }, shape: region.shape)
        let count = try Tensor.byteCount(tensor.scalarType, outer)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        for index in memory.indices { memory[index] = filler }
        var expected = [UInt8](repeating: filler, count: count)
        var span = expected.mutableSpan
        var raw = span.mutableBytes
        try RegionCopy.copy(
            tensor.scalarType, from: bytes.span.bytes, of: region.shape, region: Region(whole: region.shape),
            into: &raw, of: outer, region: local)
        return Wanted(
            request: RegionRequest(
                tensor.name,
                ReadTarget(region: region, memory: memory, scalarType: tensor.scalarType, shape: outer, local: local)),
            memory: memory, expected: expected, place: "\(tensor.name) \(tensor.scalarType)\(tensor.shape) \(region)")
    }

    /// Larger than what one thread reads at a time, so that it comes in several blocks.
    @Test(arguments: WritableFormat.all) func aTensorOfSeveralBlocksIsWhole(format: WritableFormat) throws {
        let shape: Shape = [10, 1 << 20]
        var state: UInt64 = 1
        let tensor = try Tensor(.u8, shape) { bytes in
            bytes.withUnsafeMutableBytes { buffer in
                for word in 0..<buffer.count / 8 {
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    buffer.storeBytes(of: state, toByteOffset: word * 8, as: UInt64.self)
                }
            }
        }
        let name = format.tensorName("large")
        let reader = try format.open(format.files(of: MemoryCheckpoint([name: tensor])))
        let region = try Region(offsets: [1, 5], shape: [9, (1 << 20) - 9])
        let expected = try tensor.copy(of: region)
        let read = try Tensor(.u8, region.shape) { bytes in
            try bytes.withUnsafeMutableBytes { memory in
                let target = ReadTarget(
                    region: region, memory: memory, scalarType: .u8, shape: region.shape, local: Region(whole: region.shape))
                try reader.read([RegionRequest(name, target)], options: BulkReadOptions())
            }
        }
        #expect(read == expected)
        #expect(try reader.tensor(name) == tensor)
    }
}
