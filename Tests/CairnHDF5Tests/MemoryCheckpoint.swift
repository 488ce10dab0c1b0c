import CairnBase
import CairnCheckpoint
import CairnTensor

/// A checkpoint in memory.
struct MemoryCheckpoint: CheckpointReader {
    let format = "memory"
    let source = "memory"
    let tensors: [TensorDescription]
    let values: [NamedValue]
    private let contents: [String: [UInt8]]

    init(tensors: [(TensorDescription, [UInt8])], values: [NamedValue]) {
        self.tensors = tensors.map(\.0).sorted { ExactString($0.name) < ExactString($1.name) }
        self.values = values.sorted { ExactString($0.name) < ExactString($1.name) }
        contents = Dictionary(tensors.map { ($0.0.name, $0.1) }, uniquingKeysWith: { $1 })
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let description = try description(of: name)
        let bytes = contents[description.tiedTo ?? name] ?? []
        try RegionCopy.copy(
            description.scalarType, from: bytes.span.bytes, of: description.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }
}
