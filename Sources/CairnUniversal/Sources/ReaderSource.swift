import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor of a checkpoint.
struct ReaderSource: TensorSource {
    let reader: any CheckpointReader
    let name: String
    let scalarType: ScalarType
    let shape: Shape

    init(_ reader: any CheckpointReader, _ description: TensorDescription) {
        self.reader = reader
        name = description.name
        scalarType = description.scalarType
        shape = description.shape
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try reader.read(name, region: region, into: &destination)
    }
}
