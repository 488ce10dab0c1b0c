package import CairnBase
package import CairnCheckpoint
package import CairnTensor
import Synchronization

/// A checkpoint of tensors in memory, the simplest there is.
package struct MemoryCheckpoint: CheckpointReader {
    package let format = "memory"
    package var source: String
    package private(set) var tensors: [TensorDescription] = []
    package var values: [NamedValue] = [] {
        didSet { values.sort { ExactString($0.name) < ExactString($1.name) } }
    }
    /// After so many reads, every further one fails.
    package var readLimit = Int.max
    /// Whether tensors can be had without a copy.
    package let isMapped: Bool
    private var contents: [ExactString: Tensor] = [:]
    private let reads = Counter()

    package init(_ source: String = "memory", isMapped: Bool = false) {
        self.source = source
        self.isMapped = isMapped
    }

    package init(_ tensors: KeyValuePairs<String, Tensor>) {
        self.init()
        for (name, tensor) in tensors { add(name, tensor) }
    }

    /// A copy of everything that a reader lists.
    package init(reading reader: any CheckpointReader) throws {
        self.init()
        for tensor in reader.tensors { add(tensor.name, try reader.tensor(tensor.name), tiedTo: tensor.tiedTo) }
        values = reader.values
    }

    /// Adds a tensor, or puts it in the place of the one of that name.
    package mutating func add(_ name: String, _ tensor: Tensor, tiedTo kept: String? = nil) {
        if contents.updateValue(tensor, forKey: ExactString(name)) != nil {
            tensors.removeAll { ExactString($0.name) == ExactString(name) }
        }
        tensors.append(
            TensorDescription(name: name, scalarType: tensor.scalarType, shape: tensor.shape, tiedTo: kept))
        tensors.sort { ExactString($0.name) < ExactString($1.name) }
    }

    package func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        guard let tensor = contents[ExactString(name)] else {
            throw CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
        }
        if reads.next() > readLimit { throw CairnError(.inputOutput, "as asked for") }
        do throws(CairnError) {
            try HeldView(tensor).read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }

    package func mapped(_ name: String) throws(CairnError) -> Tensor? { isMapped ? contents[ExactString(name)] : nil }
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
