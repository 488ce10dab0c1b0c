import CairnBase
import CairnCheckpoint
import CairnTensor

/// One tensor of a checkpoint, or none.
struct SingleTensorReader: CheckpointReader {
    let base: any CheckpointReader
    let tensors: [TensorDescription]

    var format: String { base.format }
    var source: String { base.source }
    var values: [NamedValue] { [] }

    init(_ base: any CheckpointReader, _ name: String) {
        self.base = base
        var tensors: [TensorDescription] = []
        if let position = base.tensors.position(of: name) { tensors = [base.tensors[position]] }
        self.tensors = tensors
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(name, region: region, into: &destination)
    }
}
