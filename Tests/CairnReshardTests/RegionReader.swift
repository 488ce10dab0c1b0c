import CairnBase
import CairnCheckpoint
import CairnTensor

/// A reader that shows nothing but tensors and regions.
struct RegionReader: CheckpointReader {
    let base: CairnReader

    init(_ base: CairnReader) { self.base = base }

    var format: String { "regions" }
    var source: String { base.source }
    var tensors: [TensorDescription] { base.tensors }
    var values: [NamedValue] { base.values }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(name, region: region, into: &destination)
    }
}
