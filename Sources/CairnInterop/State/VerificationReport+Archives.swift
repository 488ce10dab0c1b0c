import CairnBase
package import CairnCheckpoint
import CairnTensor

extension VerificationReport {
    /// Reads the storages of a file of PyTorch, or where those are no records of a zip archive, its tensors.
    mutating func add(_ contents: TorchContents, progress: (Int) throws -> Void) throws {
        try add(contents.storages, progress: progress)
        guard contents.storages.isEmpty else { return }
        for tensor in contents.tensors {
            try addUnsummed(tensor.content, named: StateNames.joined(tensor.path), progress: progress)
        }
    }

    /// Reads records and compares their checksums.
    package mutating func add(_ records: [ZipRecord], progress: (Int) throws -> Void) throws {
        for record in records {
            chunkCount += 1
            byteCount += record.byteCount
            if record.entry.checksum == nil { unsummedByteCount += record.byteCount }
            if let damage = try record.damage(progress: progress) { damages.append(Damage(error: damage)) }
        }
    }
}
