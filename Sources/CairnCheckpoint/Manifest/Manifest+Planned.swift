package import CairnBase
package import CairnLayout

extension Manifest {
    /// The manifest of a save under these layouts, before any rank has written: its files have names and lengths
    /// of the usual form but stand for nothing.
    ///
    /// - Throws: What layouts that do not fit throw.
    package init(planned tensors: [PlacedTensor]) throws(CairnError) {
        let saveID = SaveID()
        let rankCount = tensors.first?.layout.mesh.rankCount ?? 1
        let files = (0..<rankCount).map { rank in
            File(
                name: RankFileName.make(rank: rank, saveID: saveID), rank: rank, byteCount: 1 << 32 + rank,
                headerByteCount: 1 << 16, headerChecksum: UInt32(truncatingIfNeeded: rank &* 0x9E37_79B9))
        }
        self.init(
            producer: Producer.name, saveID: saveID, step: 1, time: 0, metrics: [:], lineage: nil, files: files,
            tensors: [], ties: [], values: [])
        try place(tensors.sorted { ExactString($0.name) < ExactString($1.name) })
    }
}
