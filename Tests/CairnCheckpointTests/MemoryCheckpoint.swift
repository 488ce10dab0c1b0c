import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Synchronization

/// A checkpoint of tensors in memory, the simplest there is.
struct MemoryCheckpoint: CheckpointReader {
    let format = "memory"
    let source = "memory"
    var tensors: [TensorDescription] = []
    var values: [NamedValue] = []
    /// After so many reads, every further one fails.
    var readLimit = Int.max
    private var contents: [ExactString: Tensor] = [:]
    private let reads = Counter()

    init() {}

    mutating func add(_ name: String, _ tensor: Tensor, tiedTo kept: String? = nil) {
        contents[ExactString(name)] = tensor
        tensors.append(
            TensorDescription(name: name, scalarType: tensor.scalarType, shape: tensor.shape, tiedTo: kept))
        tensors.sort { ExactString($0.name) < ExactString($1.name) }
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        guard let tensor = contents[ExactString(name)] else { throw CairnError(.notFound, "none") }
        if reads.next() > readLimit { throw CairnError(.inputOutput, "as asked for") }
        try RegionCopy.copy(
            tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }

    /// Tensors of random types, shapes, names and bytes, some values, and a tie.
    static func random(_ count: Int, using generator: inout SeededGenerator) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        let names = ["", "a", "é", "e\u{301}", "🚀/x", "quote\"\\", "nul\u{0}", "line\n", " "]
        for index in 0..<count {
            let type = ScalarType.allCases.filter(\.isSafetensorsType).randomElement(using: &generator) ?? .f32
            var extents = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
                Int.random(in: 0...5, using: &generator)
            }
            if type.isPacked { extents.append(8) }
            checkpoint.add(
                (index < names.count ? names[index] : "model.\(index)"),
                try randomTensor(type, Shape(extents), using: &generator))
        }
        if let first = checkpoint.tensors.first {
            checkpoint.add("tied", try checkpoint.tensor(first.name), tiedTo: first.name)
        }
        checkpoint.values = [
            NamedValue(name: "step", value: .integer(.max)),
            NamedValue(
                name: "zoo",
                value: [
                    "nan": .double(Double(bitPattern: 0x7ff8_0000_0000_0001)), "list": [1, 2.5, "x", .null, true],
                    "bytes": .bytes([0, 255]), "unsigned": .unsigned(.max), "$": [:],
                ]),
        ]
        return checkpoint
    }

    static func randomTensor(
        _ type: ScalarType, _ shape: Shape, using generator: inout SeededGenerator
    ) throws -> Tensor {
        let byteCount = try Tensor.byteCount(type, shape)
        let bytes = (0..<byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
        return try Tensor(type, shape, copying: bytes.span.bytes)
    }
}

private final class Counter: Sendable {
    private let count = Mutex(0)

    func next() -> Int {
        count.withLock { count in
            count += 1
            return count
        }
    }
}

/// Whether two checkpoints list the same and hold the same bytes.
func difference(_ left: any CheckpointReader, _ right: any CheckpointReader) throws -> String? {
    let names = left.tensors.map { ExactString($0.name) }
    guard names == right.tensors.map({ ExactString($0.name) }) else {
        return "names \(names.map(\.string)) and \(right.tensors.map(\.name))"
    }
    guard left.tensors == right.tensors else { return "descriptions" }
    guard left.values == right.values else { return "values" }
    for tensor in left.tensors where try left.tensor(tensor.name) != right.tensor(tensor.name) { return tensor.name }
    return nil
}

extension MemoryCheckpoint {
    /// The same content, of which only so many reads succeed.
    static func copy(of other: MemoryCheckpoint, readLimit: Int) throws -> MemoryCheckpoint {
        var copy = MemoryCheckpoint()
        for tensor in other.tensors { copy.add(tensor.name, try other.tensor(tensor.name), tiedTo: tensor.tiedTo) }
        copy.values = other.values
        copy.readLimit = readLimit
        return copy
    }
}
