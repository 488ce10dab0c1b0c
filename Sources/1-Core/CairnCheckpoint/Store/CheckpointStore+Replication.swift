import CairnBase
import CairnStorage

extension CheckpointStore {
    /// Copies the checkpoint of a step to another store, verified on the way: the same files, the same manifest, the same
    /// save id.
    ///
    /// Every chunk and every header is summed between reading and writing, so damage is never passed on. The files are made
    /// durable first and the manifest is published last, as in a save: a copy that is cut off leaves no checkpoint, and what
    /// the target had stays as it was. Parity files follow the manifest, as far as they can be read and written. Memory is bounded by a buffer for each thread. A copy that is there already and has
    /// intact headers is left alone; one that is damaged or in quarantine is written anew, which ends the quarantine.
    ///
    /// Two copies of one checkpoint into one store must not be made at the same time.
    ///
    /// A checkpoint of another save that is unusable and in the way is set aside (``SetAside``).
    ///
    /// - Returns: The manifest, with what was set aside.
    /// - Throws: ``CairnError/Code/notFound`` when there is no such checkpoint, ``CairnError/Code/mismatch`` when it is of
    ///   another save than was asked for, ``CairnError/Code/alreadyExists`` unless ``ReplicationOptions/replacing``;
    ///   what damage throws, what either storage throws, and what ``ReplicationOptions/progress`` throws.
    @discardableResult
    public func replicate(
        step: Int, to target: CheckpointStore, options: ReplicationOptions = ReplicationOptions()
    ) throws -> Manifest {
        let (reader, manifest) = try openWithManifest(step: step)
        guard options.saveID == nil || options.saveID == reader.manifest.saveID else {
            throw CairnError(
                .mismatch, "the step has been saved anew",
                .init(
                    file: storage.location(of: StepName.prefix(step)),
                    expected: "save \(options.saveID.map { "\($0)" } ?? "")", found: "save \(reader.manifest.saveID)"))
        }
        let replication = Replication(
            source: self, target: target, reader: reader, manifestBytes: manifest, prefix: StepName.prefix(step),
            step: step, options: options)
        var copied = reader.manifest
        copied.setAside = try replication.run()
        return copied
    }

    /// Copies the checkpoint of a step to another store without blocking the calling task's thread.
    @discardableResult
    public func replicate(
        step: Int, to target: CheckpointStore, options: ReplicationOptions = ReplicationOptions()
    ) async throws -> Manifest {
        try await ThreadPool.shared.run { try self.replicate(step: step, to: target, options: options) }
    }
}

/// One checkpoint on its way from store to store.
private struct Replication {
    private static let maximumTimelineByteCount = 64 << 20

    let source: CheckpointStore
    let target: CheckpointStore
    let reader: CairnReader
    /// As they are stored, so that what this version does not know is copied too.
    let manifestBytes: [UInt8]
    let prefix: String
    let step: Int
    let options: ReplicationOptions

    /// - Returns: What was in the way and unusable.
    func run() throws -> SetAside? {
        if try isThere() { return nil }
        var copied: [String] = []
        let pin = try pinEarlierFiles()
        defer { if let pin { try? target.storage.delete([pin]) } }
        do {
            // They may be of other checkpoints too, so a copy that fails leaves them: without a reference they are debris.
            for (offset, entry) in reader.manifest.earlier.enumerated() where try !hasFile(entry) {
                try copy(reader.rankFile(reader.manifest.files.count + offset), entry.file, to: entry.key)
            }
            for index in reader.manifest.files.indices {
                let file = reader.manifest.files[index]
                try copy(reader.rankFile(index), file, to: prefix + file.name)
                copied.append(prefix + file.name)
            }
            return try commit()
        } catch {
            remove(copied)
            throw error
        }
    }

    /// Whether the target has a sound copy.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``.
    private func isThere() throws(CairnError) -> Bool {
        let present = try PresentManifest(target.storage, prefix: prefix)
        try requireRoom(present)
        guard present.manifest?.saveID == reader.manifest.saveID else { return false }
        if present.flaw != nil { return false }
        return try target.open(step: step).verify(deep: false).isValid
    }

    private func requireRoom(_ present: PresentManifest) throws(CairnError) {
        let isOther = present.isInTheWay && present.manifest?.saveID != reader.manifest.saveID
        guard !isOther || options.replacing else {
            throw CairnError.stepExists(target.storage.location(of: prefix), step)
        }
    }

    /// Keeps the earlier files in the target until the manifest does.
    ///
    /// - Returns: What to delete then.
    private func pinEarlierFiles() throws(CairnError) -> String? {
        let manifest = reader.manifest
        guard !manifest.earlier.isEmpty else { return nil }
        try SavePin(keys: manifest.neededKeys).publish(target.storage, prefix: prefix, rank: 0, saveID: manifest.saveID)
        return SavePin.key(prefix: prefix, rank: 0, saveID: manifest.saveID)
    }

    /// Whether the target has an earlier file with an intact header.
    private func hasFile(_ entry: Manifest.EarlierFile) throws(CairnError) -> Bool {
        do throws(CairnError) {
            _ = try RankFile.open(target.storage.open(entry.key), location: entry.key, expected: entry.file)
            return true
        } catch {
            guard error.code.isUnusable else { throw error }
            return false
        }
    }

    private func copy(_ file: RankFile, _ expected: Manifest.File, to key: String) throws {
        let writer = try target.storage.create(key, byteCount: expected.byteCount)
        do {
            let header = try file.header(checking: expected)
            try writer.write(header, at: 0)
            let runs = file.storedRuns()
            let buffers = RecyclingPool<[UInt8]>()
            try ThreadPool.shared.forEach(runs.count, width: max(1, options.concurrency)) { [options] index in
                let run = runs[index]
                let offset = file.dataStart + run.byteRange.lowerBound
                try buffers.with([]) { buffer in
                    try file.read(run, into: &buffer)
                    try writer.write(buffer, at: offset)
                }
                writer.startWriteback(at: offset, byteCount: run.byteRange.count)
                try options.progress(run.byteRange.count)
            }
            try writer.finish(byteCount: expected.byteCount)
        } catch {
            writer.discard()
            throw error
        }
    }

    private func commit() throws(CairnError) -> SetAside? {
        let present = try PresentManifest(target.storage, prefix: prefix)
        try requireRoom(present)
        // A damaged copy of the very save that is copied is mended; anything else unusable is kept.
        let isOther = present.exists && present.manifest?.saveID != reader.manifest.saveID
        let isKept = isOther && present.isWorthKeeping
        let aside = try isKept ? SetAside.keep(present, target.storage, prefix: prefix, step: step) : nil
        let replaced = try publish(replacing: isOther && !isKept ? present : .none)
        KnownDamage.shared.forget(reader.manifest.saveID, step: step, in: target.storage)
        // What was said of a copy that is no longer there.
        if present.isMarked { try target.liftQuarantine(step: step) }
        // From here on the checkpoint is there, and what fails loses nothing of it.
        let kept = Set(reader.manifest.neededKeys)
        var stale = isKept ? [] : (present.manifest?.neededKeys ?? []).filter { !kept.contains($0) }
        if isOther, !isKept { stale += present.parityKeys }
        if replaced != nil || !stale.isEmpty { remove(stale, replaced) }
        copyTimeline()
        copyParity()
        return aside
    }

    /// Publishes the manifest. One that refers to earlier files does so while nobody deletes, and only if these are there.
    ///
    /// - Returns: Where the manifest is that it replaced.
    private func publish(replacing present: PresentManifest) throws(CairnError) -> String? {
        var replaced: String?
        if let old = present.manifest {
            let key = prefix + RankFileName.makeReplaced(old.saveID)
            try target.storage.publish(present.bytes, as: key)
            replaced = key
        }
        let key = prefix + CairnReader.manifestName
        guard !reader.manifest.earlier.isEmpty else {
            try target.storage.publish(manifestBytes, as: key)
            return replaced
        }
        try DeletionLock.hold(target.storage) { _ throws(CairnError) in
            for entry in reader.manifest.earlier where try !hasFile(entry) {
                throw CairnError(
                    .incomplete, "a file that the checkpoint refers to was deleted while it was copied",
                    .init(file: target.storage.location(of: entry.key), advice: "copy it again"))
            }
            try target.storage.publish(manifestBytes, as: key)
        }
        return replaced
    }

    /// Deletes what belonged to a checkpoint that is no longer there, as far as nothing else refers to it.
    private func remove(_ stale: [String], _ replaced: String?) {
        try? DeletionLock.hold(target.storage) { _ throws(CairnError) in
            if let replaced { try target.storage.delete([replaced]) }
            let needed = try NeededFiles(in: target.storage)
            let unneeded = stale.filter { !needed.contains($0) }
            if !unneeded.isEmpty { try target.storage.delete(unneeded) }
        }
    }

    private func copyTimeline() {
        let key = prefix + StepName.timelineName
        guard let bytes = try? source.storage.readAll(key, limit: Self.maximumTimelineByteCount) else { return }
        try? target.storage.publish(bytes, as: key)
    }

    /// Parity files have checksums of their own: one that is damaged is found out there, and made from the others.
    private func copyParity() {
        let beginning = prefix + ParityFileName.beginning
        guard let entries = try? source.storage.list(beginning) else { return }
        let keys = ParityFileName.keys(entries.map(\.key), prefix: prefix, of: reader.manifest.saveID)
        for key in keys {
            guard let file = try? source.storage.open(key),
                let writer = try? target.storage.create(key, byteCount: file.byteCount)
            else { continue }
            do throws(CairnError) {
                let step = 4 << 20
                for begin in stride(from: 0, to: file.byteCount, by: step) {
                    try writer.write(try file.bytes(in: begin..<min(file.byteCount, begin + step)), at: begin)
                }
                try writer.finish(byteCount: file.byteCount)
            } catch {
                writer.discard()
            }
        }
    }

    /// Removes files that no manifest names: another attempt writes them anew, and a full storage needs the room.
    private func remove(_ keys: [String]) {
        guard !keys.isEmpty, let present = try? PresentManifest(target.storage, prefix: prefix),
            !present.exists || (present.manifest != nil && present.manifest?.saveID != reader.manifest.saveID)
        else { return }
        try? target.storage.delete(keys)
    }
}

extension RankFile {
    /// Chunks of one fragment that stand one after the other in the file.
    fileprivate struct StoredRun: Sendable {
        var fragment: Int
        var chunks: Range<Int>
        /// From the start of the file's data.
        var byteRange: Range<Int>
    }

    /// All stored bytes of the file.
    fileprivate func storedRuns() -> [StoredRun] {
        fragments.enumerated().flatMap { index, fragment in
            runs(of: fragment.chunks.indices).map { chunks in
                let (first, last) = (fragment.chunks[chunks.lowerBound], fragment.chunks[chunks.upperBound - 1])
                return StoredRun(fragment: index, chunks: chunks, byteRange: first.offset..<last.offset + last.byteCount)
            }
        }
    }

    /// The bytes before the data, which the manifest binds.
    fileprivate func header(checking expected: Manifest.File) throws(CairnError) -> [UInt8] {
        let bytes = try file.bytes(in: 0..<dataStart)
        let checksum = CRC32C.checksum(bytes.span.bytes)
        guard checksum == expected.headerChecksum else {
            throw CairnError(
                .corrupted, "the header does not match its checksum",
                .init(
                    file: location, offset: 0, expected: checksumText(expected.headerChecksum),
                    found: checksumText(checksum), advice: "use an older checkpoint"))
        }
        return bytes
    }

    /// Reads stored bytes as they are, every chunk verified.
    fileprivate func read(_ run: StoredRun, into buffer: inout [UInt8]) throws(CairnError) {
        let fragment = fragments[run.fragment]
        do throws(CairnError) {
            if buffer.count != run.byteRange.count { buffer = [UInt8](repeating: 0, count: run.byteRange.count) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            try file.read(at: dataStart + run.byteRange.lowerBound, into: &bytes)
            for index in run.chunks {
                let chunk = fragment.chunks[index]
                let begin = chunk.offset - run.byteRange.lowerBound
                let checksum = CRC32C.checksum(bytes.bytes.extracting(begin..<begin + chunk.byteCount))
                try verify(checksum, chunk, index)
            }
        } catch {
            throw error.located(at: location).adding(.init(tensor: fragment.name))
        }
    }
}

/// How a checkpoint is copied to another store.
public struct ReplicationOptions: Sendable {
    /// The save that is meant; `nil` for whichever the step has.
    package var saveID: SaveID?
    /// Replaces another save's checkpoint of the same step. The old one stays whole and readable until the copy is durable.
    public var replacing = false
    /// How many threads read, sum and write.
    public var concurrency = 1
    /// Called from any of them with the number of bytes just copied; throwing stops the copy.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    public init() {}
}
