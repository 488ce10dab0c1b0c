import CairnBase
public import CairnCheckpoint

/// A reader of a format that has checksums, and can look at all of them.
public protocol VerifiableReader: CheckpointReader {
    /// Checks what opening did not: with `deep`, every byte of data against its checksum. Goes on past damage.
    ///
    /// - Parameter progress: Called with the number of bytes just read; throwing stops.
    func verify(deep: Bool, progress: (Int) throws -> Void) throws -> VerificationReport
}

/// A reader that may leave out part of what it reads.
public protocol OmittingReader: CheckpointReader {
    /// What is in the files and not, or not whole, in the reader: a sentence each.
    var omissions: [String] { get }
    /// How many tensors are in the files and not in the reader. What is not known in number counts as one each.
    var omittedTensorCount: Int { get }
}

extension OmittingReader {
    public var omittedTensorCount: Int { omissions.count }
}

extension VerificationReport {
    /// Reads records and compares their checksums.
    package mutating func add(_ records: [ZipRecord], progress: (Int) throws -> Void) throws {
        for record in records {
            chunkCount += 1
            byteCount += record.byteCount
            if let damage = try record.damage(progress: progress) { damages.append(Damage(error: damage)) }
        }
    }
}
