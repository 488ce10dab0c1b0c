import CairnBase
public import CairnCheckpoint
import CairnTensor

/// A reader that can read all of its data, and look at all checksums that there are.
public protocol VerifiableReader: CheckpointReader {
    /// Checks what opening did not: with `deep`, every byte of data, against its checksum where it has one. Continues past
    /// damage.
    ///
    /// - Parameter progress: Called with the number of bytes just read; throwing stops.
    func verify(deep: Bool, progress: (Int) throws -> Void) throws -> VerificationReport
}

/// A reader that may leave out part of what it reads.
public protocol SkippingReader: CheckpointReader {
    /// What is in the files and not, or not whole, in the reader: a sentence each.
    var skippedEntries: [String] { get }
    /// How many tensors are in the files and not in the reader. What is not known in number counts as one each.
    var skippedTensorCount: Int { get }
}

extension SkippingReader {
    public var skippedTensorCount: Int { skippedEntries.count }
}

extension VerificationReport {
    /// Reads all of a tensor that has no checksums: that it is there is all that can be found out. Continues after an error.
    package mutating func addUnsummed(
        _ content: any TensorContent, named name: String, progress: (Int) throws -> Void
    ) throws {
        let tensor = TensorDescription(name: name, scalarType: content.scalarType, shape: content.shape)
        var buffer: [UInt8] = []
        chunkCount += 1
        for slab in SlabSequence(of: tensor, byteLimit: 4 << 20) {
            let count = tensor.scalarType.byteCount(elementCount: slab.elementCount) ?? 0
            if buffer.count < count { buffer = [UInt8](repeating: 0, count: count) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes._mutatingExtracting(0..<count)
            do throws(CairnError) {
                try content.read(slab, into: &part)
            } catch {
                damages.append(Damage(error: error.adding(.init(tensor: name))))
                return
            }
            byteCount += count
            unsummedByteCount += count
            try progress(count)
        }
    }

    /// Reads the storages of a file of PyTorch, or where those are not records of a zip archive, its tensors.
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
