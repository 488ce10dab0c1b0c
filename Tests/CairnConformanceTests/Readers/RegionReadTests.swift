import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Synchronization
import Testing

/// A region is the same part of the whole, however it is read.
@Suite(.tags(.slow)) struct RegionReadTests {
    /// How many tensors of a sample are read: all of most, some of the fixtures that have many.
    private static let greatestCount = 30

    private static func tensors(_ reader: any CheckpointReader) -> [TensorDescription] {
        let step = max(1, reader.tensors.count / greatestCount)
        return stride(from: 0, to: reader.tensors.count, by: step).map { reader.tensors[$0] }
            .filter { $0.shape.elementCount <= 1 << 12 }
    }

    @Test(arguments: ReaderSample.all) func aRegionIsTheSamePartOfTheWhole(sample: ReaderSample) throws {
        let reader = try sample.opened()
        let seed = UInt64(reader.tensors.count) + 100
        var generator = SeededGenerator(seed: seed)
        for tensor in Self.tensors(reader) {
            let whole = try reader.whole(tensor.name)
            for region in try Region.samples(of: tensor.shape, using: &generator) {
                let place = "seed \(seed): \(tensor.name) \(tensor.scalarType)\(tensor.shape) \(region)"
                guard let expected = RegionOracle.bytes(whole, tensor.scalarType, tensor.shape, region) else {
                    #expect(refusal { _ = try reader.bytes(tensor.name, region) }?.code == .unsupported, "\(place)")
                    continue
                }
                #expect(try reader.bytes(tensor.name, region) == expected, "\(place)")
            }
        }
    }

    @Test(arguments: ReaderSample.all) func threadsDoNotDisturbEachOther(sample: ReaderSample) throws {
        let reader = try sample.opened()
        let tensors = Self.tensors(reader).filter { !$0.scalarType.isPacked }
        // A second reader, so that nothing is warm in the one that the threads share.
        let quiet = try sample.opened()
        let wholes = try tensors.map { try quiet.whole($0.name) }
        let wrong = Mutex<[String]>([])
        try ThreadPool.waiting.forEach(4 * tensors.count, width: 4) { index in
            let position = (index * 7 + index / tensors.count) % tensors.count
            let tensor = tensors[position]
            var generator = SeededGenerator(seed: UInt64(index))
            for region in try Region.samples(of: tensor.shape, using: &generator).suffix(3) {
                let expected = RegionOracle.bytes(wholes[position], tensor.scalarType, tensor.shape, region)
                let found = try reader.bytes(tensor.name, region)
                if found != expected { wrong.withLock { $0.append("seed \(index): \(tensor.name) \(region)") } }
            }
        }
        #expect(wrong.withLock { $0 } == [])
    }

    @Test(arguments: ReaderSample.all) func whatIsMappedIsWhatIsRead(sample: ReaderSample) throws {
        let reader = try sample.opened()
        for tensor in Self.tensors(reader) {
            guard let mapped = try reader.mapped(tensor.name) else { continue }
            #expect(try mapped == reader.tensor(tensor.name), "\(tensor.name)")
        }
    }
}
