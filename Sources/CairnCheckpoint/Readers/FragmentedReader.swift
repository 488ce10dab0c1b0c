public import CairnBase
public import CairnTensor

/// A reader that knows in which pieces a tensor is stored, so that reading can be planned by them.
public protocol FragmentedReader: CheckpointReader {
    /// The pieces of a tensor as they are stored, which together cover it, each with the file that holds it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an unknown name.
    func storedFragments(of name: String) throws(CairnError) -> [(region: Region, file: String)]
}

extension CairnReader: FragmentedReader {
    public func storedFragments(of name: String) throws(CairnError) -> [(region: Region, file: String)] {
        try stored(name).fragments.map { ($0.region, manifest.files[$0.file].name) }
    }
}
