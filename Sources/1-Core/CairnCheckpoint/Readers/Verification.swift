public import CairnBase
import CairnTensor
import Synchronization

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
        _ view: some TensorView, named name: String, buffer: inout [UInt8], progress: (Int) throws -> Void
    ) throws {
        chunkCount += 1
        for slab in view.slabs(of: Region(whole: view.shape), byteLimit: 4 << 20) {
            let count = view.scalarType.byteCount(elementCount: slab.elementCount) ?? 0
            if buffer.count < count { buffer = [UInt8](repeating: 0, count: count) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes.part(0..<count)
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

extension CairnReader {
    /// Checks every file against the manifest, and with `deep` every chunk against its checksum. Continues past damage and
    /// names all of it.
    ///
    /// - Parameter progress: Called from any reading thread with the number of bytes just summed; throwing stops.
    /// - Throws: Only what `progress` throws, as ``CairnError/Code/cancelled``.
    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        try verify(deep: deep, concurrency: ThreadPool.usefulReadCount, progress: progress)
    }

    /// The same on so many threads.
    ///
    /// - Throws: Only what `progress` throws, as ``CairnError/Code/cancelled``.
    public func verify(
        deep: Bool = true, concurrency: Int = BulkReadOptions.defaultConcurrency,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws(CairnError) -> VerificationReport {
        var report = VerificationReport()
        var used: [Int: [StoredFragment]] = [:]
        var damaged = Set<Int>()
        for number in manifest.fileNumbers {
            report.fileCount += 1
            do throws(CairnError) {
                _ = try rankFile(number)
            } catch {
                report.damages.append(.init(error: error))
                damaged.insert(number)
            }
        }
        // The manifest and the headers must tell the same story about every fragment.
        for tensor in manifest.tensors {
            do throws(CairnError) {
                for fragment in try fragments(of: tensor.name, intersecting: nil) where !damaged.contains(fragment.file) {
                    do throws(CairnError) {
                        let held = try find(fragment, of: tensor).1
                        if fragment.file >= manifest.files.count { used[fragment.file, default: []].append(held) }
                    } catch {
                        report.damages.append(.init(error: error))
                    }
                }
            } catch {
                report.damages.append(.init(error: error))
            }
        }
        guard deep else { return report }
        for number in manifest.fileNumbers where !damaged.contains(number) {
            // Of an earlier save's file only what this checkpoint refers to is its concern.
            let fragments = number < manifest.files.count ? nil : used[number] ?? []
            let found = try rankFile(number).verifyChunks(of: fragments, concurrency: concurrency, progress: progress)
            report.damages += found.damages
            report.chunkCount += found.chunkCount
            report.byteCount += found.byteCount
        }
        return report
    }
}

extension RankFile {
    /// Reads and sums every chunk, of some fragments or of all; expands those that are compressed.
    func verifyChunks(
        of some: [StoredFragment]? = nil, concurrency: Int = ThreadPool.usefulReadCount,
        progress: @escaping @Sendable (Int) throws -> Void
    ) throws(CairnError) -> VerificationReport {
        let fragments = some ?? self.fragments
        let work = fragments.enumerated().flatMap { index, fragment in
            runs(of: fragment.chunks.indices).map { (fragment: index, chunks: $0) }
        }
        let reports = Mutex([VerificationReport](repeating: VerificationReport(), count: work.count))
        do {
            try ThreadPool.waiting.forEach(work.count, width: concurrency) { index in
                let fragment = fragments[work[index].fragment]
                var report = VerificationReport()
                var buffer = [UInt8](repeating: 0, count: self.metadata.chunkByteCount)
                for chunk in work[index].chunks {
                    let begin = chunk * self.metadata.chunkByteCount
                    let length = min(self.metadata.chunkByteCount, fragment.byteCount - begin)
                    do throws(CairnError) {
                        try self.readForVerification(fragment, at: begin, length, &buffer)
                    } catch {
                        report.damages.append(.init(error: error, chunk: chunk))
                    }
                    report.chunkCount += 1
                    report.byteCount += length
                    try progress(length)
                }
                let found = report
                reports.withLock { $0[index] = found }
            }
        } catch {
            throw error as? CairnError ?? CairnError(.cancelled, "the verification was stopped", cause: error)
        }
        var total = VerificationReport()
        for report in reports.withLock({ $0 }) {
            total.damages += report.damages
            total.chunkCount += report.chunkCount
            total.byteCount += report.byteCount
        }
        return total
    }

    /// Expands a fragment that claims to be far larger than its stored bytes once, chunk by chunk into one buffer, so that no
    /// memory is taken for a claim: a stored byte may stand for at most 256 before they have been read.
    func proveExpansion(of fragment: StoredFragment) throws(CairnError) {
        guard fragment.codec != .raw, fragment.byteCount / 256 > max(fragment.byteRange.count, 1 << 18) else { return }
        var buffer = [UInt8](repeating: 0, count: metadata.chunkByteCount)
        for begin in stride(from: 0, to: fragment.byteCount, by: metadata.chunkByteCount) {
            let length = min(metadata.chunkByteCount, fragment.byteCount - begin)
            try readForVerification(fragment, at: begin, length, &buffer)
        }
    }

    private func readForVerification(
        _ fragment: StoredFragment, at begin: Int, _ length: Int, _ buffer: inout [UInt8]
    ) throws(CairnError) {
        var span = buffer.mutableSpan
        var bytes = span.mutableBytes
        var destination = bytes.part(0..<length)
        try read(fragment, at: begin, into: &destination)
    }
}
