public import CairnBase
import CairnTensor

/// What a verification found.
public struct VerificationReport: Sendable {
    /// A part of a checkpoint that is damaged or missing.
    public struct Damage: Sendable {
        /// What is wrong; its context names the file, the tensor and the offset.
        public var error: CairnError
        /// Which chunk of the tensor's fragment it is, counted from 0, if it is one.
        public var chunk: Int?

        public init(error: CairnError, chunk: Int? = nil) {
            self.error = error
            self.chunk = chunk
        }
    }

    /// Everything that is wrong, in the order of files.
    public var damages: [Damage] = []
    /// How many files were looked at.
    public var fileCount = 0
    /// How many parts of the data (chunks, records, tensors) were read.
    public var chunkCount = 0
    /// How many bytes of data were read.
    public var byteCount = 0
    /// How many of them have no checksum that the reader knows of, so that a change in them cannot be noticed.
    public var unsummedByteCount = 0

    /// What else is to be said of the files, such as bytes behind the end, a sentence each.
    public var notes: [String] = []

    /// Whether nothing is wrong.
    public var isValid: Bool { damages.isEmpty }

    public init() {}
}

extension VerificationReport {
    /// Reads all of a tensor that has no checksums: that it is there is all that can be found out. Continues after an error.
    package mutating func addUnsummed(
        _ view: some TensorView, named name: String, progress: (Int) throws -> Void
    ) throws {
        var buffer: [UInt8] = []
        chunkCount += 1
        for slab in view.slabs(of: Region(whole: view.shape), byteLimit: 4 << 20) {
            let count = view.scalarType.byteCount(elementCount: slab.elementCount) ?? 0
            if buffer.count < count { buffer = [UInt8](repeating: 0, count: count) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes._mutatingExtracting(0..<count)
            do throws(CairnError) {
                try view.read(slab, into: &part)
            } catch {
                damages.append(Damage(error: error.adding(.init(tensor: name))))
                return
            }
            byteCount += count
            unsummedByteCount += count
            try progress(count)
        }
    }
}
