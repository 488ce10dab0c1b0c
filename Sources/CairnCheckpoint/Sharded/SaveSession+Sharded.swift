package import CairnBase
import CairnLayout
import CairnTensor

extension SaveSession {
    /// Writes what the writer rule gives this rank of a state into its file.
    ///
    /// - Returns: The file, durable.
    /// - Throws: ``CairnError/Code/incomplete`` when the rank lacks a tensor that it should write part of.
    func write(_ state: ShardedState) throws -> Manifest.File {
        let plan = try WritePlan(state.tensors)
        setPlaced(state.tensors)
        try setGlobal(values: state.values, ties: state.ties)
        var fragments: [TensorFragment] = []
        for write in plan.writes(ofRank: state.rank) {
            let placed = state.tensors[write.tensor]
            guard let tensor = state.local(placed.name) else {
                throw CairnError(
                    .incomplete, "a rank lacks its part of a tensor",
                    .init(tensor: placed.name, rank: state.rank, expected: "its part of \(placed)"))
            }
            fragments.append(try TensorFragment(
                name: placed.name, globalShape: plan.storedShape(ofTensor: write.tensor), region: write.global,
                tensor: tensor.slice(write.local).reshaped(write.global.shape)))
        }
        try self.write(rank: state.rank, fragments: fragments, values: state.rankValues)
        guard let file = file(ofRank: state.rank) else {
            throw CairnError(.incomplete, "the rank's file is not part of the save", .init(rank: state.rank))
        }
        return file
    }

    /// A digest of what the ranks must agree on: tensors, layouts, values, ties, step, save id, options that the manifest
    /// repeats. 32 bits of CRC and 64 of FNV-1a: against mistakes, not against forgers.
    package func digest() throws(CairnError) -> String {
        // Clocks differ.
        let bytes = Array(try globalText(time: 0).utf8)
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        let words = (0..<8).map { UInt8(truncatingIfNeeded: hash >> (56 - 8 * UInt64($0))) }
        return checksumText(CRC32C.checksum(bytes.span.bytes)) + Hexadecimal.encode(words)
    }
}
